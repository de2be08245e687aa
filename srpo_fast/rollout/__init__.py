"""Sampling completions: everything that imports vLLM."""

from srpo_fast.rollout.background import Scorer
from srpo_fast.rollout.engine import Progress, RolloutEngine, Sampling, StaleEngine, sample_all, sample_stream
from srpo_fast.rollout.groups import sample_groups
from srpo_fast.rollout.image_inputs import Features, Pixels
from srpo_fast.rollout.phases import PhaseError, require_device
from srpo_fast.rollout.vllm_engine import VllmEngine

__all__ = [
    "Features",
    "PhaseError",
    "Pixels",
    "Progress",
    "RolloutEngine",
    "Sampling",
    "Scorer",
    "StaleEngine",
    "VllmEngine",
    "require_device",
    "sample_all",
    "sample_groups",
    "sample_stream",
]

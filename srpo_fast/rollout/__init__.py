"""Sampling completions: everything that imports vLLM."""

from srpo_fast.rollout.background import Scorer
from srpo_fast.rollout.engine import Progress, RolloutEngine, Sampling, StaleEngine
from srpo_fast.rollout.groups import sample_groups
from srpo_fast.rollout.image_inputs import Features, Pixels
from srpo_fast.rollout.phases import PhaseError, require_device

__all__ = [
    "Features",
    "PhaseError",
    "Pixels",
    "Progress",
    "RolloutEngine",
    "Sampling",
    "Scorer",
    "StaleEngine",
    "require_device",
    "sample_groups",
]

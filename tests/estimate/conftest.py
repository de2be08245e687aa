"""Jobs to predict: a model small enough to work out by hand, and the ones that ship."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from srpo_fast.config import Config, load_config
from srpo_fast.estimate.assumptions import Assumptions, assume
from srpo_fast.estimate.gpus import GPUS
from srpo_fast.estimate.job import Job, make_job
from srpo_fast.model_shape import PUBLISHED, ModelShape, TextShape, VisionShape

# what the shipped configs may turn on; the tests name what they are about
PLAIN = (
    "model.recompute=none", "parallel.sequence_parallel=false", "parallel.distributed_optimizer=false",
    "optimizer.master_weights=full", "optimizer.moments=float32", "optimizer.offload=false",
)  # fmt: skip
CONFIGS = Path(__file__).parents[2] / "configs"

TINY = ModelShape(
    text=TextShape(layers=2, hidden=8, heads=4, kv_heads=2, ffn=16, vocab=32, tied=False),
    vision=VisionShape(depth=1, hidden=4, ffn=6, heads=2, out_hidden=8, full_layers=1),
)


def shipped(size: str, *overrides: str) -> Config:
    return load_config(CONFIGS / f"qwen2_5_vl_{size}.yaml", list(overrides))


JobMaker = Callable[..., Job]


@pytest.fixture
def tiny_job() -> JobMaker:
    """Of the tiny model in bf16 on H100s; texts of 4 and 12 tokens."""

    def make(*overrides: str, gpus: int = 1, gpu: str = "h100", **replaced: object) -> Job:
        config = shipped(
            "7b", *PLAIN, "parallel.tp=1", "data.prompts_per_step=4", "data.max_prompt_tokens=8",
            "rollout.max_tokens=24", "data.max_pixels=3136", "optimizer.tokens_per_micro_batch=32",
            "rollout.kv_cache_gib=0.5", *overrides,
        )  # fmt: skip
        job = make_job(config, TINY, GPUS[gpu], gpus, 80.0, assume(config, TINY.vision, [], is_cpu=gpu == "cpu"))
        return replace(job, **replaced)  # type: ignore[arg-type]

    return make


@pytest.fixture
def real_job() -> JobMaker:
    """Of a shipped config, made plain."""

    def make(size: str, *overrides: str, gpus: int = 8, gpu: str = "h200", **replaced: object) -> Job:
        config, shape, device = shipped(size, *PLAIN, *overrides), PUBLISHED[size], GPUS[gpu]
        assumptions: Assumptions = assume(config, shape.vision, [], is_cpu=device.is_cpu)
        return replace(make_job(config, shape, device, gpus, device.memory_gib, assumptions), **replaced)  # type: ignore[arg-type]

    return make

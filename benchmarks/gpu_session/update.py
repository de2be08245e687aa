"""Sections: policy updates of random models of published shapes.

srpo_fast needs packages that the machine may lack; it is imported within, so that other sections do without.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.kernel_times import kernel_times
from benchmarks.gpu_session.operands import seconds_of
from benchmarks.gpu_session.scale import Scale
from benchmarks.memory import extra_bytes

if TYPE_CHECKING:
    from srpo_fast.config import Config
    from srpo_fast.model_shape import ModelShape
    from srpo_fast.packing import PackedBatch
    from srpo_fast.policy import Policy

BYTES_A_WEIGHT = 18  # bf16 weights, fp32 gradients, masters and both moments
SHARE = 0.8  # of the GPU's memory for these; activations, logits and the vision tower have the rest
UPDATES = 5
ROOT = Path(__file__).parents[2]


def update_3b(scale: Scale) -> Iterator[Row]:
    yield from _update("3b", scale)


def update_7b(scale: Scale) -> Iterator[Row]:
    yield from _update("7b", scale)


def _update(model: str, scale: Scale) -> Iterator[Row]:
    """Memory beside what `srpo estimate` predicts; seconds of the vision tower, both passes and the optimizer; FLOP/s;
    then the kernels of each."""
    from srpo_fast.loss import objective_of, srpo_loss

    shape, config = _shape(model, scale), _config(scale)
    policy = _policy(shape, scale)
    held = {"weights and gradients": _allocated(scale)}
    policy.new_optimizer(config.optimizer)
    batch, loss, tower = _batch(shape, scale), srpo_loss(objective_of(config.loss)), policy.vision
    assert tower is not None
    parts: dict[str, Callable[[], object]] = {
        "vision": lambda: tower.features_of(batch.image_prompts, last_pass=True),
        "passes": lambda: policy.forward_backward(batch, loss),  # the vision tower included
        "optimizer": lambda: policy.step(1e-6),
    }
    yield {"model": model, "layers": shape.text.layers, "held_bytes": held}
    for name, run in parts.items():
        yield {"first": name, "s": seconds_of(run, scale)}  # compiles
    held["optimizer"] = _allocated(scale) - held["weights and gradients"]
    extra = {name: extra_bytes(run, scale.device) for name, run in parts.items()}
    yield {"held_bytes": held, "extra_bytes": extra, "predicted_bytes": _predicted(shape, config, scale)}
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for name, run in list(parts.items()) * UPDATES:
        seconds[name].append(seconds_of(run, scale))
    yield _result(shape, scale, seconds)
    for name, run in parts.items():
        yield from ({"part": name, **row} for row in kernel_times(run))


def _config(scale: Scale) -> "Config":
    from srpo_fast.config import load_config

    case = scale.updated
    return load_config(
        ROOT / "configs/embedded.yaml", [f"model.dtype={case.dtype}", f"model.recompute={case.recompute}"]
    )


def _predicted(shape: "ModelShape", config: "Config", scale: Scale) -> Row:
    """As estimate_check compares it on a CPU."""
    from srpo_fast.estimate import memory
    from srpo_fast.estimate.assumptions import assume
    from srpo_fast.estimate.gpus import GPUS
    from srpo_fast.estimate.job import MicroBatchSize, make_job

    on_cpu, case = scale.device == "cpu", scale.updated
    job = make_job(
        config, shape, GPUS["cpu" if on_cpu else "h100"], 1, 1.0, assume(config, shape.vision, [], is_cpu=on_cpu)
    )
    tokens = case.sequences * (case.prompt_tokens + case.completion_tokens)
    rows = case.sequences * case.completion_tokens
    resident = memory.resident(job, 0)
    return {
        "weights and gradients": sum(resident[name] for name in ("policy weights", "vision tower", "gradients")),
        "optimizer": resident["optimizer"],
        "passes": memory.forward_backward(job, 0, MicroBatchSize(tokens=tokens, loss_rows=rows, padded_tokens=tokens)),
        "optimizer's step": memory.optimizer_step(job, 0),
    }


def _result(shape: "ModelShape", scale: Scale, seconds: dict[str, list[float]]) -> Row:
    """flops: of the model, what is recomputed and the vision tower left out."""
    from srpo_fast.flops import UpdateFlops

    case, flops = scale.updated, UpdateFlops(shape=shape, train_vision=False)
    length = case.prompt_tokens + case.completion_tokens
    work = case.sequences * flops.of_sequence(length, case.completion_tokens)
    vision, passes, optimizer = (min(seconds[name]) for name in ("vision", "passes", "optimizer"))
    return {
        "tokens": case.sequences * length, "patches": case.sequences * case.image_side**2,
        "recompute": case.recompute, "seconds": seconds, "flops": work,
        "passes_flops_per_s": work / (passes - vision), "update_flops_per_s": work / (passes + optimizer),
    }  # fmt: skip


def _shape(model: str, scale: Scale) -> "ModelShape":
    """The published shape, with no more layers than fit."""
    from srpo_fast.model_shape import PUBLISHED, ModelShape, TextShape, VisionShape

    if scale.device == "cpu":
        vision = VisionShape(depth=4, hidden=80, ffn=128, heads=1, out_hidden=64)
        text = TextShape(layers=2, hidden=64, heads=4, kv_heads=2, ffn=96, vocab=160, tied=model == "3b")
        return ModelShape(text=text, vision=vision)
    shape = PUBLISHED[model]
    text = shape.text
    embedding = text.vocab * text.hidden * (1 if text.tied else 2)
    weights = SHARE * torch.cuda.get_device_properties(0).total_memory / BYTES_A_WEIGHT
    layers = min(text.layers, int((weights - embedding) / text.product_weights))
    return replace(shape, text=replace(text, layers=layers))


def _policy(shape: "ModelShape", scale: Scale) -> "Policy":
    from benchmarks.gpu_session.hollow import fill, write_hollow_model
    from srpo_fast.config import ParallelConfig
    from srpo_fast.parallel import start
    from srpo_fast.policy import Policy

    with tempfile.TemporaryDirectory() as folder:
        write_hollow_model(Path(folder), shape)
        policy = Policy(
            Path(folder), dtype=scale.updated.dtype, seed=0, parallel=start(ParallelConfig()), banned_ids=(1, 2),
            temperature=1.0, recompute=scale.updated.recompute,
        )  # fmt: skip
    assert policy.vision is not None
    for module in (policy.language_model, policy.vision.module):
        fill(module)
    return policy


def _batch(shape: "ModelShape", scale: Scale) -> "PackedBatch":
    """One micro-batch of sequences that all have a gradient."""
    from benchmarks.estimate_child import IMAGE_TOKEN, sequence
    from srpo_fast.flops import UpdateFlops
    from srpo_fast.loss import with_token_weights
    from srpo_fast.packing import pack

    case = scale.updated
    sequences = [replace(sequence(case, number), advantage=1.0 + number) for number in range(case.sequences)]
    return pack(
        with_token_weights(sequences, "completion"), dp=1, dp_rank=0, merge_size=2, image_token_id=IMAGE_TOKEN,
        tokens_per_micro_batch=case.sequences * (case.prompt_tokens + case.completion_tokens),
        flops=UpdateFlops(shape=shape, train_vision=False),
    )  # fmt: skip


def _allocated(scale: Scale) -> int:
    return torch.cuda.memory_allocated() if scale.device == "cuda" else 0

"""Sections: policy updates of random models of published shapes, and the attention they rest on.

srpo_fast needs packages that the machine may lack; it is imported within, so that other sections do without.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.kernel_times import kernel_times
from benchmarks.gpu_session.scale import Scale

if TYPE_CHECKING:
    from srpo_fast.model_shape import ModelShape
    from srpo_fast.packing import PackedBatch
    from srpo_fast.policy import Policy

BYTES_A_WEIGHT = 18  # bf16 weights, fp32 gradients, masters and both moments
SHARE = 0.8  # of the GPU's memory for these; activations, logits and the vision tower have the rest
UPDATES = 5


def update_3b(scale: Scale) -> Iterator[Row]:
    yield from _update("3b", scale)


def update_7b(scale: Scale) -> Iterator[Row]:
    yield from _update("7b", scale)


def _update(model: str, scale: Scale) -> Iterator[Row]:
    """Seconds of the vision tower, of both passes and of the optimizer, memory, FLOP/s; then the kernels of each."""
    from srpo_fast.config import LossConfig, OptimizerConfig
    from srpo_fast.loss import objective_of, srpo_loss

    shape = _shape(model, scale)
    policy = _policy(shape, scale)
    policy.new_optimizer(OptimizerConfig())
    yield {"model": model, "layers": shape.text.layers, "allocated_bytes": _allocated(scale)}
    batch, loss = _batch(shape, scale), srpo_loss(objective_of(LossConfig()))
    parts: dict[str, Callable[[], object]] = {
        "vision": lambda: policy.vision.encode(batch.image_prompts),
        "passes": lambda: policy.forward_backward(batch, loss),  # the vision tower included
        "optimizer": lambda: policy.step(1e-6),
    }
    for name, run in parts.items():
        yield {"first": name, "s": _seconds(run, scale)}  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for name, run in list(parts.items()) * UPDATES:
        seconds[name].append(_seconds(run, scale))
    yield _result(shape, scale, seconds)
    for name, run in parts.items():
        yield from ({"part": name, **row} for row in kernel_times(run))


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
        "peak_bytes": torch.cuda.max_memory_allocated() if scale.device == "cuda" else 0,
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


def attention(scale: Scale) -> Iterator[Row]:
    """torch's varlen kernel, with fewer key heads than queries: against fp32 and padding, and its FLOP/s."""
    from srpo_fast.policy.attention import padded_attention, torch_flash_attention

    attend = torch_flash_attention if scale.device == "cuda" else padded_attention
    ragged = _packing([n * scale.checked_rows // 8 + 1 for n in range(1, 5)], scale)
    query, key, value = (_heads(ragged, heads, scale) for heads in (28, 4, 4))
    found, true = (
        _with_gradients(operation, [x.to(dtype) for x in (query, key, value)], ragged)
        for operation, dtype in ((attend, scale.dtype), (padded_attention, torch.float32))
    )
    errors = [float((f.float() - t).abs().max() / t.abs().max()) for f, t in zip(found, true, strict=True)]
    yield {"attend": attend.__name__, "errors": dict(zip(("output", "dquery", "dkey", "dvalue"), errors, strict=True))}
    length = scale.tokens[0] // 2
    even = _packing([length] * 8, scale)
    inputs = [_heads(even, heads, scale) for heads in (28, 4, 4)]
    spent = [_seconds(lambda: _with_gradients(attend, inputs, even), scale) for _ in range(UPDATES)]
    flops = 3.5 * 4 * 8 * 28 * 128 * length**2 / 2  # backward: five products of which two are the forward's
    yield {"attend": attend.__name__, "sequences": 8, "length": length, "s": min(spent), "per_s": flops / min(spent)}


def _packing(lengths: list[int], scale: Scale) -> Any:
    from srpo_fast.policy.attention import Packing

    bounds = torch.tensor([0, *lengths], device=scale.device).cumsum(0).int()
    return Packing(
        qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=max(lengths),
        max_seqlen_kv=max(lengths),
    )  # fmt: skip


def _heads(packing: Any, heads: int, scale: Scale) -> torch.Tensor:
    return torch.randn(int(packing.cu_seqlens_q[-1]), heads, 128, device=scale.device).to(scale.dtype)


def _with_gradients(attend: Callable[..., torch.Tensor], inputs: list[torch.Tensor], packing: Any) -> list[Any]:
    """[output, dquery, dkey, dvalue]; the loss weighs the outputs by themselves."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = attend(*leaves, packing, 128**-0.5)
    output.backward(output.detach())
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def _seconds(run: Callable[[], object], scale: Scale) -> float:
    settle = torch.cuda.synchronize if scale.device == "cuda" else lambda: None
    settle()
    begin = time.perf_counter()
    run()
    settle()
    return time.perf_counter() - begin


def _allocated(scale: Scale) -> int:
    return torch.cuda.memory_allocated() if scale.device == "cuda" else 0

"""Section: the attention of an update.

srpo_fast needs packages that the machine may lack; it is imported within, so that other sections do without.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.operands import seconds_of
from benchmarks.gpu_session.scale import Scale

if TYPE_CHECKING:
    from srpo_fast.policy.attention import Packing

ROUNDS = 5


def attention(scale: Scale) -> Iterator[Row]:
    """torch's varlen kernel, with fewer key heads than queries: against fp64 and padding, where sequences attend to
    themselves and where they are the last of their keys, and its FLOP/s."""
    from srpo_fast.policy.attention import flash_attention, padded_attention

    attend = flash_attention if scale.device == "cuda" else padded_attention
    lengths = [n * scale.checked_rows // 8 + 1 for n in range(1, 5)]
    for shared in (0, scale.checked_rows // 4):
        packing = _packing(lengths, scale, shared)
        inputs = _heads(packing, scale)
        found, true = (
            _with_gradients(operation, [x.to(dtype) for x in inputs], packing)
            for operation, dtype in ((attend, scale.dtype), (padded_attention, torch.float64))
        )
        errors = [float((f.double() - t).abs().max() / t.abs().max()) for f, t in zip(found, true, strict=True)]
        names = ("output", "dquery", "dkey", "dvalue")
        yield {"attend": attend.__name__, "shared": shared, "errors": dict(zip(names, errors, strict=True))}
    length = scale.tokens[0] // 2
    even = _packing([length] * 8, scale)
    inputs = _heads(even, scale)
    spent = [seconds_of(lambda: _with_gradients(attend, inputs, even), scale) for _ in range(ROUNDS)]
    flops = 3.5 * 4 * 8 * 28 * 128 * length**2 / 2  # backward: five products of which two are the forward's
    yield {"attend": attend.__name__, "sequences": 8, "length": length, "s": min(spent), "per_s": flops / min(spent)}


def _packing(lengths: list[int], scale: Scale, shared: int = 0) -> "Packing":
    """Of sequences of so many queries, each with `shared` keys before its own."""
    from srpo_fast.policy.attention import Packing

    bounds = torch.tensor([0, *lengths], device=scale.device).cumsum(0)
    before = shared * torch.arange(len(bounds), device=scale.device)
    return Packing(
        qkv_format="thd", cu_seqlens_q=bounds.int(), cu_seqlens_kv=(bounds + before).int(), max_seqlen_q=max(lengths),
        max_seqlen_kv=max(lengths) + shared, kv=slice(None) if shared else None,
    )  # fmt: skip


def _heads(packing: "Packing", scale: Scale) -> list[Tensor]:
    """Queries, keys and values of Qwen2.5-VL-7B's heads."""
    tokens = {28: int(packing.cu_seqlens_q[-1]), 4: int(packing.cu_seqlens_kv[-1])}
    return [torch.randn(tokens[n], n, 128, device=scale.device).to(scale.dtype) for n in (28, 4, 4)]


def _with_gradients(attend: Callable[..., Tensor], inputs: list[Tensor], packing: "Packing") -> list[Tensor]:
    """[output, dquery, dkey, dvalue]; the loss weighs the outputs by themselves."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    output = attend(*leaves, packing, 128**-0.5)
    return [output.detach(), *torch.autograd.grad(output, leaves, output.detach())]

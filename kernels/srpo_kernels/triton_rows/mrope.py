"""Queries and keys turned by rotary angles: one program a token, which reads its angles once for all heads of both."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from srpo_kernels.triton_rows.launches import launches_on


def mrope(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """As the twin, rounded once."""
    return _Turned.apply(query, key, cos, sin)


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        return turned(query, key, cos, sin, is_backward=False)

    @staticmethod
    def backward(ctx: Any, dquery: Tensor, dkey: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *turned(dquery, dkey, *ctx.saved_tensors, is_backward=True), None, None


def turned(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *, is_backward: bool) -> tuple[Tensor, Tensor]:
    query, key = _rows(query), _rows(key)
    turned_query = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    turned_key = torch.empty(key.shape, dtype=key.dtype, device=key.device)
    (T, H, d), K = query.shape, key.shape[1]
    if T > 0:
        _mrope[T,](
            query, query.stride(0), query.stride(1), turned_query, key, key.stride(0), key.stride(1), turned_key,
            cos.contiguous(), sin.contiguous(), H, K, d // 2, HEADS=triton.next_power_of_2(H),
            KEYS=triton.next_power_of_2(K), HALF=triton.next_power_of_2(d // 2), IS_BACKWARD=is_backward,
            num_warps=launches_on(query.device).mrope_warps,
        )  # fmt: skip
    return turned_query, turned_key


def _rows(heads: Tensor) -> Tensor:
    return heads if heads.stride(-1) == 1 else heads.contiguous()


@triton.jit
def turn(x, token_stride, head_stride, out, n, half, cos, sin, cos_right, sin_right, IS_BACKWARD: tl.constexpr,
         HEADS: tl.constexpr, HALF: tl.constexpr):  # fmt: skip
    """The n heads of this program's token; angles [1, HALF] of both halves."""
    token = tl.program_id(0).to(tl.int64)
    head, at = tl.arange(0, HEADS)[:, None], tl.arange(0, HALF)[None, :]
    inside = (head < n) & (at < half)
    x += token * token_stride + head * head_stride + at
    left = tl.load(x, mask=inside, other=0).to(tl.float32)
    right = tl.load(x + half, mask=inside, other=0).to(tl.float32)
    if IS_BACKWARD:  # the transposed rotation
        to_left = left * cos + right * sin_right
        to_right = right * cos_right - left * sin
    else:
        to_left = left * cos - right * sin
        to_right = right * cos_right + left * sin_right
    out += (token * n + head) * 2 * half + at
    tl.store(out, to_left.to(out.dtype.element_ty), mask=inside)
    tl.store(out + half, to_right.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _mrope(
    query, query_token, query_head, turned_query, key, key_token, key_head, turned_key, cos, sin, H, K, half,
    HEADS: tl.constexpr, KEYS: tl.constexpr, HALF: tl.constexpr, IS_BACKWARD: tl.constexpr,
):  # fmt: skip
    at = tl.arange(0, HALF)[None, :]
    first = tl.program_id(0).to(tl.int64) * 2 * half + at
    cos_left = tl.load(cos + first, mask=at < half, other=0).to(tl.float32)
    cos_right = tl.load(cos + first + half, mask=at < half, other=0).to(tl.float32)
    sin_left = tl.load(sin + first, mask=at < half, other=0).to(tl.float32)
    sin_right = tl.load(sin + first + half, mask=at < half, other=0).to(tl.float32)
    turn(query, query_token, query_head, turned_query, H, half, cos_left, sin_left, cos_right, sin_right, IS_BACKWARD,
         HEADS, HALF)  # fmt: skip
    turn(key, key_token, key_head, turned_key, K, half, cos_left, sin_left, cos_right, sin_right, IS_BACKWARD, KEYS,
         HALF)  # fmt: skip

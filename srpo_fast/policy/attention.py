"""Causal attention over packed sequences: a function for CUDA, one for the CPU, and the module Megatron calls.

Shapes: T packed tokens of this rank, S sequences, L the longest, H query heads, K key/value heads, d head size. Under
context parallelism keys are gathered from all ranks, and where completions share a prompt from its rows; either way a
sequence's queries are the last of its keys.
"""

import math
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from inspect import signature
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from srpo_fast.batch import MicroBatch
from srpo_fast.parallel import Parallel
from srpo_fast.policy.rows import attention_spans
from srpo_kernels import mrope


@dataclass
class Packing(PackedSeqParams):
    """What every layer's attention needs to know of a micro-batch."""

    cos: Tensor = None  # type: ignore[assignment]  # [T, 1, d]
    sin: Tensor = None  # type: ignore[assignment]
    kv: slice | Tensor | None = None  # of all ranks' keys, in the order of cu_seqlens_kv; None: the rows as they are


def packing_of(batch: MicroBatch, angles: Tensor, dtype: torch.dtype, parallel: Parallel) -> Packing:
    """The packing of a rank's share of a micro-batch, with its rotary angles [T, d]."""
    bounds: dict[str, Any] = {
        "cu_seqlens_q": batch.cu_seqlens, "cu_seqlens_kv": batch.cu_seqlens,
        "max_seqlen_q": batch.max_seqlen, "max_seqlen_kv": batch.max_seqlen,
    }  # fmt: skip
    if parallel.cp > 1:
        spans = attention_spans(batch.cu_seqlens, batch.keys, parallel)
        bounds = {name: getattr(spans, name) for name in [*bounds, "kv"]}
    elif batch.keys is not None:
        bounds |= {"cu_seqlens_kv": batch.keys.cu_seqlens, "max_seqlen_kv": batch.keys.max_seqlen}
        bounds["kv"] = batch.keys.rows
    cos, sin = angles.cos().to(dtype)[:, None], angles.sin().to(dtype)[:, None]
    return Packing(qkv_format="thd", cos=cos, sin=sin, **bounds)


def flash_attention(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float) -> Tensor:
    """[Tq, H, d] x [Tk, K, d] x [Tk, K, d] -> [Tq, H, d], in 16 bits (can_flash)."""
    return _flash(
        q, k, v, packing.cu_seqlens_q, packing.cu_seqlens_kv, packing.max_seqlen_q, packing.max_seqlen_kv, scale,
        is_causal=True,
    )  # fmt: skip


def flash_windows(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, scaling: float,
    cu_seq_lens_q: Tensor, max_length_q: int, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """([1, T, H, d], None) as transformers calls it for the vision tower: of [1, H, T, d], all windows at once."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    bounds, longest = cu_seq_lens_q, max_length_q
    return _flash(q, k, v, bounds, bounds, longest, longest, scaling, is_causal=False)[None], None


def _flash(
    q: Tensor, k: Tensor, v: Tensor, bounds_q: Tensor, bounds_k: Tensor, longest_q: int, longest_k: int, scale: float,
    *, is_causal: bool,
) -> Tensor:  # fmt: skip
    """FlashAttention 2: of the package flash-attn where that is installed, else the one that comes with torch."""
    if has_flash_attn():
        from flash_attn import flash_attn_varlen_func

        return flash_attn_varlen_func(
            q, k, v, bounds_q, bounds_k, longest_q, longest_k, softmax_scale=scale, causal=is_causal
        )
    from torch.nn.attention.varlen import varlen_attn

    options: dict[str, Any] = {"scale": scale, "window_size": (-1, 0) if is_causal else (-1, -1)}
    if q.shape[1] != k.shape[1] and "enable_gqa" in signature(varlen_attn).parameters:
        options["enable_gqa"] = True  # torch 2.11 takes fewer key heads without being told to
    return varlen_attn(q, k, v, bounds_q, bounds_k, longest_q, longest_k, **options)


@cache
def has_flash_attn() -> bool:
    """By its metadata: other packages bring modules of that name."""
    return any(distributions(name="flash-attn"))


def can_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether FlashAttention's kernels take such tensors: fp32 they do not."""
    return device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)


def padded_attention(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float) -> Tensor:
    """The same through one padded SDPA call. Padding is at the end, where a causal mask already hides it."""
    (q_rows, q_shape), (k_rows, k_shape) = _padded_rows(q, packing, "q"), _padded_rows(k, packing, "kv")

    def pad(packed: Tensor, rows: Tensor, shape: tuple[int, int]) -> Tensor:
        padded = packed.new_zeros(shape[0] * shape[1], *packed.shape[1:]).index_copy(0, rows, packed)
        return padded.unflatten(0, shape).transpose(1, 2)

    mask = None if packing.kv is None else _mask_by_last_keys(packing)
    out = scaled_dot_product_attention(
        pad(q, q_rows, q_shape), pad(k, k_rows, k_shape), pad(v, k_rows, k_shape),
        attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True,
    )  # fmt: skip
    return out.transpose(1, 2).flatten(0, 1).index_select(0, q_rows)


def _padded_rows(packed: Tensor, packing: Packing, which: str) -> tuple[Tensor, tuple[int, int]]:
    """The rows of packed tokens in a padded batch, and that batch's (S, L)."""
    cu_seqlens, longest = getattr(packing, f"cu_seqlens_{which}").long(), getattr(packing, f"max_seqlen_{which}")
    lengths = cu_seqlens.diff()
    sequence = torch.repeat_interleave(torch.arange(len(lengths), device=packed.device), lengths)
    rows = torch.arange(len(packed), device=packed.device) + (sequence * longest - cu_seqlens[sequence])
    return rows, (len(lengths), longest)


def _mask_by_last_keys(packing: Packing) -> Tensor:
    """[S, 1, Lq, Lk] bool: the n-th last query of a sequence sees all but its n - 1 last keys."""
    device = packing.cu_seqlens_q.device
    ahead = (packing.cu_seqlens_kv.diff() - packing.cu_seqlens_q.diff())[:, None, None]
    q, k = torch.arange(packing.max_seqlen_q, device=device), torch.arange(packing.max_seqlen_kv, device=device)
    return (k <= q[:, None] + ahead)[:, None]


class VarlenCoreAttention(MegatronModule):
    """Megatron's core_attention for thd-packed, causal self-attention without dropout; it also applies M-RoPE.

    Megatron's own rotary code reads every sequence's length back from the device in every layer, and cuts rows for
    context parallelism in another way.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        *args: Any,
        softmax_scale: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config=config)
        self.scale = softmax_scale or 1.0 / math.sqrt(config.kv_channels)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *args: Any,
        packed_seq_params: Packing, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        """[T, H, d], [T, K, d], [T, K, d] -> [T, H * d]."""
        packing = packed_seq_params
        query, key = mrope(query, key, packing.cos, packing.sin)
        if packing.kv is not None:
            key, value = _keys_of_all_ranks(torch.cat([key, value], dim=-1), packing.kv)
        attend = flash_attention if can_flash(query.device, query.dtype) else padded_attention
        return attend(query, key, value, packing, self.scale).flatten(1)


def _keys_of_all_ranks(key_and_value: Tensor, rows: slice | Tensor) -> tuple[Tensor, ...]:
    """Those rows of all context-parallel ranks' keys and values; backward sums their gradients over ranks and uses."""
    group = parallel_state.get_context_parallel_group()
    every = gather_from_sequence_parallel_region(key_and_value.contiguous(), group=group)
    return (every[rows] if isinstance(rows, slice) else every.index_select(0, rows)).chunk(2, dim=-1)

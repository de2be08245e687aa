"""Causal attention over packed sequences: one function for CUDA, one for the CPU, and the module Megatron calls.

Shapes: T packed tokens, S sequences, L the longest, H query heads, K key/value heads, d head size.
"""

import math
from typing import Any

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def flash_attention(q: Tensor, k: Tensor, v: Tensor, packing: PackedSeqParams, scale: float) -> Tensor:
    """[T, H, d] x [T, K, d] x [T, K, d] -> [T, H, d] with flash-attn's varlen kernel."""
    from flash_attn import flash_attn_varlen_func

    cu_seqlens, longest = packing.cu_seqlens_q, packing.max_seqlen_q
    return flash_attn_varlen_func(
        q, k, v, cu_seqlens, cu_seqlens, longest, longest, softmax_scale=scale, causal=True
    )  # fmt: skip


def padded_attention(q: Tensor, k: Tensor, v: Tensor, packing: PackedSeqParams, scale: float) -> Tensor:
    """The same through one padded SDPA call. Padding is at the end, where a causal mask already hides it."""
    cu_seqlens, longest = packing.cu_seqlens_q.long(), packing.max_seqlen_q
    lengths = cu_seqlens.diff()
    num_sequences = len(lengths)
    sequence = torch.repeat_interleave(torch.arange(num_sequences, device=q.device), lengths)
    rows = torch.arange(len(q), device=q.device) + (sequence * longest - cu_seqlens[sequence])

    def pad(packed: Tensor) -> Tensor:
        padded = packed.new_zeros(num_sequences * longest, *packed.shape[1:]).index_copy(0, rows, packed)
        return padded.unflatten(0, (num_sequences, longest)).transpose(1, 2)

    out = scaled_dot_product_attention(pad(q), pad(k), pad(v), is_causal=True, scale=scale, enable_gqa=True)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, rows)


class VarlenCoreAttention(MegatronModule):
    """Megatron's core_attention for thd-packed, causal self-attention without dropout."""

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
        self.attend = flash_attention if torch.cuda.is_available() else padded_attention

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *args: Any,
        packed_seq_params: PackedSeqParams, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        """[T, H, d], [T, K, d], [T, K, d] -> [T, H * d]."""
        return self.attend(query, key, value, packed_seq_params, self.scale).flatten(1)

"""Rotary angles applied to queries and keys."""

import torch
from torch import Tensor


def mrope(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """query [T, H, d] and key [T, K, d] of packed tokens, turned by angles with cos and sin [T, 1, d].

    Element i of a head's first half turns with element i of its second half. A token's angles may come from several
    positions (M-RoPE: time, height, width, each for a part of i); that is settled when they are made. Differentiable in
    query and key.
    """
    return _turned(query, cos, sin), _turned(key, cos, sin)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin

"""Rotary angles applied to queries and keys: one launch for both on a GPU."""

from torch import Tensor

from srpo_kernels import reference


def mrope(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """([T, H, d], [T, K, d]): queries and keys turned by angles with cos and sin [T, 1, d].

    The specification is `reference.mrope`; the GPU's kernel rounds once, where the twin rounds each product.
    """
    if not query.is_cuda:
        return reference.mrope(query, key, cos, sin)
    from srpo_kernels import triton_rows  # not where there is no GPU: triton may be absent

    return triton_rows.mrope(query, key, cos, sin)

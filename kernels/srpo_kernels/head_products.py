"""The head's matrix products, and in how many rows at a time: logits, and the gradients of hidden states and weight.

Logits and the weight's gradient are never rounded to bf16. A GPU multiplies bf16 into fp32 by itself. A CPU's products
of bf16 are bf16, so there fp32 copies are multiplied: bf16 numbers and their products are exact in fp32.
"""

import torch
from torch import Tensor

CUDA_ROWS = 4096  # in a chunk: products of fewer rows do not fill a large GPU
CUDA_BYTES = 512 * 2**20  # of logits in a chunk where that is more rows
CPU_ROWS = 64  # fewer would read the weight from memory for too little work
CPU_BYTES = 24 * 2**20  # more is a little faster, for memory that nothing else needs


def chunk_rows(columns: int, device_type: str) -> int:
    """How many rows of fp32 logits [n, columns] exist at a time."""
    least, size = (CUDA_ROWS, CUDA_BYTES) if device_type == "cuda" else (CPU_ROWS, CPU_BYTES)
    return max(least, size // (4 * columns))


def exact_dtype(values: Tensor) -> torch.dtype:
    """Of logits, statistics and sums."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def operand_dtype(values: Tensor) -> torch.dtype:
    """Of what is multiplied."""
    return values.dtype if values.is_cuda else exact_dtype(values)


def logits_into(out: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
    """out [n, V_tp] in its exact dtype = hidden [n, D] @ weight.T [D, V_tp]."""
    if hidden.dtype == out.dtype:
        return torch.mm(hidden, weight.T, out=out)
    return torch.mm(hidden, weight.T, out_dtype=out.dtype, out=out)


def add_product(total: Tensor, dlogits: Tensor, hidden: Tensor) -> None:
    """total [V_tp, D] in its exact dtype += dlogits.T [V_tp, n] @ hidden [n, D], in place."""
    if hidden.dtype == total.dtype:
        total.addmm_(dlogits.T, hidden)
    else:
        torch.addmm(total, dlogits.T, hidden, out_dtype=total.dtype, out=total)

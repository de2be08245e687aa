"""Which packed rows reach the loss: one pass over mask and coefficients instead of four tensor operations."""

import torch
from torch import Tensor

from srpo_kernels import native, reference


def nonzero_rows(mask: Tensor, coefficients: Tensor) -> Tensor:
    """[R] int64: the rows with a set mask [T] bool and a coefficient [T] fp32 other than zero, ascending.

    The specification is `reference.nonzero_rows`.
    """
    library = native.library()
    if library is None:
        return reference.nonzero_rows(mask, coefficients)
    reference.check_rows(mask, coefficients)
    mask, coefficients = mask.contiguous(), coefficients.contiguous()
    rows = torch.empty(mask.numel(), dtype=torch.int64)
    num_rows = library.srpo_nonzero_rows(mask.data_ptr(), coefficients.data_ptr(), mask.numel(), rows.data_ptr())
    return rows[:num_rows].clone()  # the view would keep all T elements alive

import torch
from torch import Tensor


def poisoned(t: Tensor) -> Tensor:
    """The tensor, filled with NaN or the least integer: what a kernel leaves unwritten shows."""
    if t.dtype == torch.bool:
        return t
    return t.fill_(float("nan") if t.is_floating_point() else torch.iinfo(t.dtype).min)

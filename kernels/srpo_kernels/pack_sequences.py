"""Best-fit decreasing packing with a balanced tree of open bins: S log S instead of the twin's S bins a sequence."""

import torch
from torch import Tensor

from srpo_kernels import native, reference


def pack_sequences(lengths: Tensor, budget: int) -> Tensor:
    """[S] int64: the bin of each sequence of lengths [S] int64 tokens, no bin over `budget` tokens.

    The specification, ValueErrors included, is `reference.pack_sequences`.
    """
    library = native.library()
    if library is None:
        return reference.pack_sequences(lengths, budget)
    reference.check_lengths(lengths, budget)
    lengths = lengths.contiguous()
    bins = torch.empty_like(lengths)
    library.srpo_pack_sequences(lengths.data_ptr(), lengths.numel(), budget, bins.data_ptr())
    return bins

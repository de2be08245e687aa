"""Bins for sequences, by best fit."""

import bisect

import torch
from torch import Tensor


def pack_sequences(lengths: Tensor, budget: int) -> Tensor:
    """Bins for sequences by best fit, longest first: few bins, each of at most `budget` tokens.

    Sequences are taken by falling length, then by index; each goes into the fullest bin that still holds it (the
    lowest bin of equally full ones), else into a new one. The same input gives the same bins on every rank.

    Args:
        lengths: [S] int64 tokens, on the CPU.
        budget: tokens a bin may hold.

    Returns:
        [S] int64, the bin of each sequence; bins are numbered from 0 in the order they were opened.

    Raises:
        ValueError: a sequence is empty or longer than the budget.
    """
    check_lengths(lengths, budget)
    sizes = lengths.tolist()
    bins = [0] * len(sizes)
    open_bins: list[tuple[int, int]] = []  # (tokens left, bin), ascending
    for sequence in sorted(range(len(sizes)), key=lambda s: (-sizes[s], s)):
        slot = bisect.bisect_left(open_bins, (sizes[sequence], 0))
        left, chosen = open_bins.pop(slot) if slot < len(open_bins) else (budget, len(open_bins))
        bisect.insort(open_bins, (left - sizes[sequence], chosen))
        bins[sequence] = chosen
    return torch.tensor(bins, dtype=torch.int64)


def check_lengths(lengths: Tensor, budget: int) -> None:
    """Raise ValueError unless the arguments of pack_sequences are what it expects."""
    if lengths.ndim != 1 or lengths.dtype != torch.int64 or lengths.is_cuda:
        raise ValueError(
            f"expected lengths [S] int64 on the CPU, got {tuple(lengths.shape)} {lengths.dtype} on {lengths.device}"
        )
    unfit = torch.nonzero((lengths < 1) | (lengths > budget)).flatten().tolist()
    if unfit:
        raise ValueError(
            f"sequence {unfit[0]} has {lengths[unfit[0]].item()} tokens, expected 1 to {budget} "
            f"({len(unfit)} such sequences); raise the token budget or leave them out"
        )

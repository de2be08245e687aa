"""The specification: each operation in plain PyTorch, with no regard for speed. The objective is in objective.py.

Shapes: R rows (tokens whose log-prob is wanted), V vocabulary, V_tp this rank's shard of it,
S sequences.
"""

import bisect
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributed import ProcessGroup

from srpo_kernels.objective import Objective, srpo_objective

__all__ = [
    "BANNED_BIAS",
    "Objective",
    "check_lengths",
    "pack_sequences",
    "srpo_objective",
    "vocab_parallel_token_logprobs",
    "vocab_parallel_token_logprobs_and_entropy",
]

BANNED_BIAS = -100.0  # the engine's logit_bias for a token it may not sample


def vocab_parallel_token_logprobs(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    banned_ids: Tensor | None = None,
    vocab_start: int = 0,
    group: ProcessGroup | None = None,
) -> Tensor:
    """log p(labels) under softmax((logits + bias) / temperature) over the whole vocabulary.

    Args:
        logits: [R, V_tp] any float dtype, this rank's columns; not modified.
        labels: [R] int64 token ids in [0, V), the same on every rank of `group`.
        temperature: the sampling temperature, > 0.
        banned_ids: [B] int64 token ids whose logit gets BANNED_BIAS before the temperature.
        vocab_start: token id of this rank's first column.
        group: the ranks that hold the other columns; None when this rank holds them all.

    Returns:
        [R] fp32 (fp64 for fp64 logits), equal on every rank. Differentiable in logits for a loss that every rank of
        the group computes alike: a rank's gradient is that of the one loss, not of a sum over ranks.
    """
    scores = _sampling_scores(logits, labels, temperature, banned_ids, vocab_start)
    return _label_scores(scores, labels, vocab_start, group) - _log_normalizer(scores, group)


def vocab_parallel_token_logprobs_and_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    banned_ids: Tensor | None = None,
    vocab_start: int = 0,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, Tensor]:
    """vocab_parallel_token_logprobs, and the entropy of each row's distribution.

    Returns:
        (logprobs [R], entropy [R] nats), both in the dtype of vocab_parallel_token_logprobs and differentiable in
        logits under the same condition.
    """
    scores = _sampling_scores(logits, labels, temperature, banned_ids, vocab_start)
    log_normalizer = _log_normalizer(scores, group)
    logprobs = _label_scores(scores, labels, vocab_start, group) - log_normalizer
    return logprobs, _Entropy.apply(scores, log_normalizer.detach(), group)


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


class _AllReduceSum(torch.autograd.Function):
    """Sum over the group; identity backward, because every rank holds the same loss."""

    @staticmethod
    def forward(ctx: FunctionCtx, partial: Tensor, group: ProcessGroup) -> Tensor:
        total = partial.clone()
        dist.all_reduce(total, op=dist.ReduceOp.SUM, group=group)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, dtotal: Tensor) -> tuple[Tensor, None]:
        return dtotal, None


class _Entropy(torch.autograd.Function):
    """H = -sum_v p_v log p_v over the whole vocabulary; dH/dscore_v = -p_v (log p_v + H).

    By hand, because the derivative of p log p at a probability that underflows to 0 is infinite.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, log_normalizer: Tensor, group: ProcessGroup | None) -> Tensor:
        probabilities = (scores - log_normalizer[:, None]).exp()
        entropy = torch.special.entr(probabilities).sum(-1)
        if group is not None:
            dist.all_reduce(entropy, op=dist.ReduceOp.SUM, group=group)
        ctx.save_for_backward(probabilities, entropy)
        return entropy

    @staticmethod
    def backward(ctx: Any, dentropy: Tensor) -> tuple[Tensor, None, None]:
        probabilities, entropy = ctx.saved_tensors
        slope = torch.special.entr(probabilities) - probabilities * entropy[:, None]
        return slope * dentropy[:, None], None, None


def _sum_over(partial: Tensor, group: ProcessGroup | None) -> Tensor:
    return partial if group is None else _AllReduceSum.apply(partial, group)


def _sampling_scores(
    logits: Tensor, labels: Tensor, temperature: float, banned_ids: Tensor | None, vocab_start: int
) -> Tensor:
    """[R, V_tp] fp32 or fp64: what the engine's softmax sees."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"expected logits [R, V] and labels [R], got {tuple(logits.shape)} and {tuple(labels.shape)}")
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    scores = logits if logits.dtype == torch.float64 else logits.float()
    if banned_ids is not None:
        columns = banned_ids - vocab_start
        bias = scores.new_zeros(scores.shape[1])
        bias[columns[(columns >= 0) & (columns < scores.shape[1])]] = BANNED_BIAS
        scores = scores + bias
    return scores / temperature


def _label_scores(scores: Tensor, labels: Tensor, vocab_start: int, group: ProcessGroup | None) -> Tensor:
    """[R]: the score of each row's label, from the rank that holds its column."""
    columns = labels - vocab_start
    is_here = (columns >= 0) & (columns < scores.shape[1])
    chosen = scores.gather(1, torch.where(is_here, columns, 0)[:, None]).squeeze(1)
    return _sum_over(torch.where(is_here, chosen, 0.0), group)


def _log_normalizer(scores: Tensor, group: ProcessGroup | None) -> Tensor:
    """[R]: logsumexp over the whole vocabulary."""
    highest = scores.detach().amax(-1)
    if group is not None:
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=group)
    return highest + _sum_over((scores - highest[:, None]).exp().sum(-1), group).log()

"""The log-prob of one token a row, and the entropy of the row's distribution, from logits of the whole batch.

Shapes: R rows (tokens whose log-prob is wanted), V vocabulary, V_tp this rank's shard of it.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributed import ProcessGroup

from srpo_kernels.vocab_shard import BANNED_BIAS


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

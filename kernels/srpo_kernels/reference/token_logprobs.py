"""The log-prob of one token a row, and the entropy of the row's distribution, from logits of the whole batch.

Shapes: R rows (tokens whose log-prob is wanted), V_tp this rank's shard of the vocabulary.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributed import ProcessGroup

from srpo_kernels.reference.scores import label_scores, sampling_scores
from srpo_kernels.vocab_shard import VocabShard


def token_logprobs_and_entropy(logits: Tensor, labels: Tensor, *, vocab: VocabShard) -> tuple[Tensor, Tensor]:
    """(log p(labels) [R], entropy [R] nats) of softmax((logits + bias) / temperature) over the whole vocabulary.

    Args:
        logits: [R, V_tp] any float dtype, this rank's columns; not modified.
        labels: [R] int64 token ids in the whole vocabulary, the same on every rank of `vocab.group`.

    Both are fp32 (fp64 for fp64 logits) and equal on every rank. Differentiable in logits for a loss that every rank of
    the group computes alike: a rank's gradient is that of the one loss, not of a sum over ranks.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"expected logits [R, V] and labels [R], got {tuple(logits.shape)} and {tuple(labels.shape)}")
    scores, group = sampling_scores(logits, vocab), vocab.group
    log_normalizer = _log_normalizer(scores, group)
    logprobs = _sum_over(label_scores(scores, labels, vocab), group) - log_normalizer
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


def _log_normalizer(scores: Tensor, group: ProcessGroup | None) -> Tensor:
    """[R]: logsumexp over the whole vocabulary."""
    highest = scores.detach().amax(-1)
    if group is not None:
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=group)
    return highest + _sum_over((scores - highest[:, None]).exp().sum(-1), group).log()

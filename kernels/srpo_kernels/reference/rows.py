"""The parts of the head that look at rows of logits: what a row says of its distribution, and its gradient.

Shapes: n rows of one chunk, V_tp this rank's columns, D hidden size, W ranks that share the vocabulary. A score is what
the engine's softmax saw: (logit + bias) / temperature. Statistics and what is made of them are fp32, for fp64 logits
fp64; logits are never rounded on the way to them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from srpo_kernels.objective import Objective, srpo_objective
from srpo_kernels.objective_rows import ObjectiveRows, ObjectiveTerms
from srpo_kernels.reference.scores import label_scores, sampling_scores
from srpo_kernels.vocab_shard import VocabShard


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What the whole vocabulary says of each row."""

    logprobs: Tensor  # [n] fp32, of the labels
    entropy: Tensor  # [n] fp32 nats
    log_normalizer: Tensor  # [n] fp32, the logsumexp of the scores


def row_statistics(logits: Tensor, labels: Tensor, *, vocab: VocabShard) -> Tensor:
    """[4, n] fp32 of this rank's scores x: m = max x, sum exp(x - m), sum exp(x - m) (x - m), and the label's x.

    logits: [n, V_tp] any float dtype, rows may be strided; the bias is not in them yet; not modified.
    labels: [n] int64 token ids; one that another rank holds has 0 as its x.
    Any shift is exact to rounding: a row of logits all near -200 or 200 has the statistics of one near 0.
    """
    scores = sampling_scores(logits, vocab)
    highest = scores.amax(-1)
    below = scores - highest[:, None]
    mass = below.exp()
    moment = torch.where(mass > 0, mass * below, 0).sum(-1)
    return torch.stack([highest, mass.sum(-1), moment, label_scores(scores, labels, vocab)])


def linear_statistics(hidden: Tensor, weight: Tensor, labels: Tensor, *, vocab: VocabShard) -> Tensor:
    """`row_statistics` of logits = hidden @ weight.T, in fp32 and never stored: hidden [n, D], weight [V_tp, D]."""
    exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    return row_statistics(hidden.to(exact) @ weight.to(exact).T, labels, vocab=vocab)


def merge_statistics(statistics: Tensor) -> Distribution:
    """The distribution over the whole vocabulary from all ranks' statistics [W, 4, n], merged in rank order."""
    highest, mass, moment, of_labels = statistics.unbind(1)
    top = highest.amax(0)
    shift = highest - top
    scale = shift.exp()
    total = (mass * scale).sum(0)
    mean_below = ((moment + mass * shift) * scale).sum(0) / total  # of x - top under the distribution
    return Distribution(
        logprobs=of_labels.sum(0) - top - total.log(),
        entropy=total.log() - mean_below,
        log_normalizer=top + total.log(),
    )


def objective_rows(statistics: Tensor, rows: ObjectiveRows, *, objective: Objective) -> ObjectiveTerms:
    """What the objective makes of rows with all ranks' statistics [W, 4, n]: their loss and its slopes.

    For objectives that need no more of a sequence than one token's log-prob (`is_token_level`), so that rows may come
    in chunks; `rows.row_offsets` is not read.
    """
    found = merge_statistics(statistics)
    with torch.enable_grad():
        logprobs, entropy = found.logprobs.detach().requires_grad_(), found.entropy.detach().requires_grad_()
        old = logprobs.detach() if rows.old_logprobs is None else rows.old_logprobs
        loss, metrics = srpo_objective(
            logprobs, old, rows.rollout_logprobs, rows.advantages, rows.token_weights, objective=objective,
            row_offsets=rows.row_offsets, ref_logprobs=rows.ref_logprobs, entropy=entropy,
        )  # fmt: skip
        slopes = torch.autograd.grad(loss, [logprobs, entropy], allow_unused=True, materialize_grads=True)
    return ObjectiveTerms(
        logprobs=found.logprobs, entropy=found.entropy, log_normalizer=found.log_normalizer, loss=loss.detach(),
        metrics=metrics, dlogprobs=slopes[0], dentropy=slopes[1],
    )  # fmt: skip


def row_gradient(
    logits: Tensor, labels: Tensor, distribution: Distribution, dlogprobs: Tensor, dentropy: Tensor | None, *,
    vocab: VocabShard, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """[n, V_tp] of `dtype`: the gradient of the logits for slopes [n] of the loss in log-prob and entropy.

    With p = softmax(x), h the entropy and 1_y the label: (dlogprobs (1_y - p) - dentropy p (log p + h)) / temperature.
    A row whose slopes are 0 is exactly 0. dentropy None: no slope in the entropy. Fast versions write into the storage
    of `logits`, which is then lost.
    """
    log_p = sampling_scores(logits, vocab) - distribution.log_normalizer[:, None]
    p = log_p.exp()
    gradient = -p * dlogprobs[:, None]
    columns = labels - vocab.start
    is_here = (columns >= 0) & (columns < p.shape[1])
    gradient.scatter_add_(1, torch.where(is_here, columns, 0)[:, None], torch.where(is_here, dlogprobs, 0)[:, None])
    if dentropy is not None:
        gradient -= dentropy[:, None] * torch.where(p > 0, p * (log_p + distribution.entropy[:, None]), 0)
    is_dead = (dlogprobs == 0) if dentropy is None else (dlogprobs == 0) & (dentropy == 0)
    return (gradient / vocab.temperature).masked_fill(is_dead[:, None], 0).to(dtype)

"""The head: hidden states and this rank's rows of the output layer in, the loss of an update out.

Shapes: T rows of hidden states, D hidden size, R rows with a label, V_tp this rank's columns of the vocabulary.

Every rank of `vocab.group` gets the same loss; a rank's gradient of `hidden` is the part that comes through its own
columns, so the group's sum is the whole (srpo_fast adds it up, by all-reduce or by reduce-scatter).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from srpo_kernels.objective import Objective, srpo_objective
from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.reference.token_logprobs import token_logprobs_and_entropy
from srpo_kernels.vocab_shard import VocabShard


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOutput:
    loss: Tensor  # scalar fp32, differentiable
    metrics: dict[str, Tensor]  # sums over rows (ratio_max: their maximum), without gradient
    logprobs: Tensor  # [R] fp32, without gradient; 0 in rows that were left out
    entropy: Tensor  # [R] fp32 nats, likewise


def srpo_head(
    hidden: Tensor, weight: Tensor, loss_rows: Tensor, labels: Tensor, rows: ObjectiveRows, *, objective: Objective,
    vocab: VocabShard, weight_grad: Tensor | None = None,
) -> HeadOutput:  # fmt: skip
    """The loss of objective.py, from hidden states.

    Args:
        hidden: [T, D], differentiable.
        weight: [V_tp, D], this rank's rows of the output layer; differentiable, unless weight_grad is given.
        loss_rows: [R] int64, the rows of `hidden` whose labels count; one with several labels comes several times.
        labels: [R] int64 token ids.
        rows: what else the objective reads, [R] each.
        weight_grad: [V_tp, D] fp32: the gradient of `weight` for a loss that enters the total once is added to this
            instead of going to autograd; then the gradient that comes back for the loss has to be 1.

    Rows of weight 0 are left out, and without KL and entropy terms those of advantage 0; of a sequence-level objective
    whole sequences only. They have no gradient, count in no metric and never reach the output layer.
    """
    kept = kept_rows(rows, objective)
    logprobs, entropy = _distribution(hidden[loss_rows[kept]], _with_grad(weight, weight_grad), labels[kept], vocab)
    chosen = chosen_rows(rows, kept)
    old = logprobs.detach() if chosen.old_logprobs is None else chosen.old_logprobs
    loss, metrics = srpo_objective(
        logprobs, old, chosen.rollout_logprobs, chosen.advantages, chosen.token_weights, objective=objective,
        row_offsets=chosen.row_offsets, ref_logprobs=chosen.ref_logprobs, entropy=entropy,
    )  # fmt: skip
    return _output(loss, metrics, logprobs, entropy, kept, len(loss_rows))


def cross_entropy_head(
    hidden: Tensor, weight: Tensor, loss_rows: Tensor, labels: Tensor, token_weights: Tensor, *, vocab: VocabShard,
    weight_grad: Tensor | None = None,
) -> HeadOutput:  # fmt: skip
    """- sum_t w_t log p(label t), weights [R]; else as srpo_head. Its metric is `tokens`, how many have a weight."""
    kept = (token_weights != 0).nonzero().flatten()
    logprobs, entropy = _distribution(hidden[loss_rows[kept]], _with_grad(weight, weight_grad), labels[kept], vocab)
    loss = -(token_weights[kept] * logprobs).sum()
    return _output(loss, {"tokens": loss.new_tensor(len(kept))}, logprobs, entropy, kept, len(loss_rows))


@torch.no_grad()
def head_logprobs(
    hidden: Tensor, weight: Tensor, loss_rows: Tensor, labels: Tensor, *, vocab: VocabShard
) -> tuple[Tensor, Tensor]:
    """(log-probs [R], entropy [R] nats) of all these rows, without gradient."""
    return _distribution(hidden[loss_rows], weight, labels, vocab)


def kept_rows(rows: ObjectiveRows, objective: Objective) -> Tensor:
    """[K] int64 ascending: the rows that can have a gradient, with the rest of their sequence where it counts."""
    return live_rows(rows, objective).nonzero().flatten()


def live_rows(rows: ObjectiveRows, objective: Objective) -> Tensor:
    """[R] bool: which rows are kept. Nothing here waits for a GPU."""
    live = rows.token_weights != 0
    if not objective.trains_zero_advantage:
        live = live & (rows.advantages != 0)
    if objective.ratio == "sequence" or objective.importance == "sequence_mask":
        lengths = rows.row_offsets.diff().long()
        sequences = torch.arange(len(lengths), device=live.device)
        owner = sequences.repeat_interleave(lengths, output_size=len(live))
        live = (torch.zeros_like(lengths).index_add(0, owner, live.long()) > 0)[owner]
    return live


def chosen_rows(rows: ObjectiveRows, kept: Tensor) -> ObjectiveRows:
    """The kept rows [K], in the same sequences, some now empty."""
    before = torch.zeros(len(rows.token_weights) + 1, dtype=torch.int64, device=kept.device)
    before[kept + 1] = 1

    def of(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[kept]

    return ObjectiveRows(
        rollout_logprobs=rows.rollout_logprobs[kept], advantages=rows.advantages[kept],
        token_weights=rows.token_weights[kept], row_offsets=before.cumsum(0)[rows.row_offsets.long()].int(),
        old_logprobs=of(rows.old_logprobs), ref_logprobs=of(rows.ref_logprobs),
    )  # fmt: skip


def _distribution(hidden: Tensor, weight: Tensor, labels: Tensor, vocab: VocabShard) -> tuple[Tensor, Tensor]:
    exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    return token_logprobs_and_entropy(hidden.to(exact) @ weight.to(exact).T, labels, vocab=vocab)


def _output(
    loss: Tensor, metrics: dict[str, Tensor], logprobs: Tensor, entropy: Tensor, kept: Tensor, R: int
) -> HeadOutput:
    def spread(values: Tensor) -> Tensor:
        return values.new_zeros(R).index_copy(0, kept, values.detach())

    return HeadOutput(loss=loss, metrics=metrics, logprobs=spread(logprobs), entropy=spread(entropy))


def _with_grad(weight: Tensor, weight_grad: Tensor | None) -> Tensor:
    return weight if weight_grad is None else _GradientInto.apply(weight.detach().requires_grad_(), weight_grad)


class _GradientInto(torch.autograd.Function):
    """The identity, whose gradient is added to a buffer of the caller's."""

    @staticmethod
    def forward(ctx, weight: Tensor, weight_grad: Tensor) -> Tensor:  # type: ignore[override]
        ctx.weight_grad = weight_grad
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx, dweight: Tensor) -> tuple[None, None]:  # type: ignore[override]
        ctx.weight_grad += dweight
        return None, None

"""The head in chunks of rows: the losses of reference/head.py, without the logits of all rows at a time.

On a CPU, rows without a gradient are left out before the output layer, and those whose slope came out as exactly 0
(clipped, masked) before the backward products. On a GPU both lists would have to wait for the device: there all rows
are computed, those left out count as nothing, and callers drop rows while they are on the host.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from srpo_kernels import reference
from srpo_kernels.head_autograd import Passes, evaluate
from srpo_kernels.head_passes import HeadRows, TermsOf, one_pass, statistics_pass, two_passes
from srpo_kernels.head_products import operand_dtype
from srpo_kernels.objective import Objective, sequence_mask, srpo_objective
from srpo_kernels.objective_rows import ObjectiveRows, ObjectiveTerms, is_token_level
from srpo_kernels.reference.head import HeadOutput, chosen_rows, live_rows
from srpo_kernels.row_operations import RowOperations, operations_for
from srpo_kernels.vocab_shard import VocabShard


def srpo_head(
    hidden: Tensor, weight: Tensor, loss_rows: Tensor, labels: Tensor, rows: ObjectiveRows, *, objective: Objective,
    vocab: VocabShard, weight_grad: Tensor | None = None,
) -> HeadOutput:  # fmt: skip
    """As the twin. Three products a chunk, four where slopes need whole sequences that do not fit in one.

    Raises ValueError when the rows are not as many as the labels.
    """
    rows.check(len(loss_rows))
    operations = operations_for(hidden.device)

    def terms_of(where: Tensor | slice, chosen: ObjectiveRows, dead: Tensor | None = None) -> ObjectiveTerms:
        head = _head_rows(hidden, weight, loss_rows[where], labels[where], vocab, operations, dead=dead)
        return _objective_terms(hidden, weight, weight_grad, head, chosen, objective)

    if operations.kept_rows is None:
        live = live_rows(rows, objective)
        terms = terms_of(slice(None), replace(rows, token_weights=rows.token_weights.where(live, 0.0)), ~live)
        return _output(terms, lambda values: values.where(live, 0.0))
    rows.check_offsets(len(loss_rows))
    kept = operations.kept_rows(rows, objective)
    if len(kept) == len(loss_rows):
        return _output(terms_of(slice(None), rows), torch.clone)
    terms = terms_of(kept, chosen_rows(rows, kept))
    return _output(terms, lambda values: values.new_zeros(len(loss_rows)).index_copy_(0, kept, values))


def cross_entropy_head(
    hidden: Tensor, weight: Tensor, loss_rows: Tensor, labels: Tensor, token_weights: Tensor, *, vocab: VocabShard,
    weight_grad: Tensor | None = None,
) -> HeadOutput:  # fmt: skip
    """As the twin, in three products a chunk."""
    operations = operations_for(hidden.device)

    def terms_of(where: Tensor | slice, dead: Tensor | None = None) -> ObjectiveTerms:
        head = _head_rows(hidden, weight, loss_rows[where], labels[where], vocab, operations, dead=dead)
        weights = token_weights[where]
        return evaluate(
            hidden, weight, weight_grad, head, lambda statistics, chunk: _cross_entropy(statistics, weights[chunk]),
            one_pass, with_entropy=False,
        )  # fmt: skip

    counts = token_weights != 0
    if operations.kept_rows is None:
        return _output(terms_of(slice(None), ~counts), lambda values: values.where(counts, 0.0))
    kept = counts.nonzero().flatten()
    return _output(terms_of(kept), lambda values: values.new_zeros(len(loss_rows)).index_copy_(0, kept, values))


@torch.no_grad()
def head_logprobs(
    hidden: Tensor, weight: Tensor, loss_rows: Tensor, labels: Tensor, *, vocab: VocabShard
) -> tuple[Tensor, Tensor]:
    """As the twin, in one product a chunk."""
    head = _head_rows(hidden, weight, loss_rows, labels, vocab, operations_for(hidden.device))
    found = reference.merge_statistics(statistics_pass(head))
    return found.logprobs, found.entropy


def _head_rows(
    hidden: Tensor, weight: Tensor, rows: Tensor, labels: Tensor, vocab: VocabShard, operations: RowOperations, *,
    dead: Tensor | None = None,
) -> HeadRows:  # fmt: skip
    assert hidden.dtype == weight.dtype, (hidden.dtype, weight.dtype)
    operand = weight.detach().to(operand_dtype(weight))
    return HeadRows(
        hidden=hidden.detach(), weight=operand, rows=rows, labels=labels, dead=dead, vocab=vocab,
        operations=operations,
    )  # fmt: skip


def _objective_terms(
    hidden: Tensor, weight: Tensor, weight_grad: Tensor | None, head: HeadRows, rows: ObjectiveRows,
    objective: Objective,
) -> ObjectiveTerms:  # fmt: skip
    terms_of, passes = _of_objective(head, rows, objective)
    with_entropy = objective.entropy_coef > 0
    terms = evaluate(hidden, weight, weight_grad, head, terms_of, passes, with_entropy=with_entropy)
    if _is_masked_beforehand(objective, rows):
        return replace(terms, metrics=_metrics(terms, rows, objective))
    return terms


def _of_objective(head: HeadRows, rows: ObjectiveRows, objective: Objective) -> tuple[TermsOf, Passes]:
    if not is_token_level(objective, rows):
        passes = one_pass if len(head.chunks(len(head.rows))) <= 1 else two_passes  # either asks once, for all rows
        return lambda statistics, _: reference.objective_rows(statistics, rows, objective=objective), passes
    if _is_masked_beforehand(objective, rows):
        rows, objective = _masked(rows, objective)
    operation = head.operations.objective_rows
    return lambda statistics, chunk: operation(statistics, rows[chunk], objective=objective), one_pass


def _is_masked_beforehand(objective: Objective, rows: ObjectiveRows) -> bool:
    """Whether a correction by sequences, which a chunk may cut, is known without the forward pass."""
    return objective.importance == "sequence_mask" and is_token_level(objective, rows)


def _masked(rows: ObjectiveRows, objective: Objective) -> tuple[ObjectiveRows, Objective]:
    """An objective of tokens with the same loss: a correction of 0 is an advantage of 0."""
    assert rows.old_logprobs is not None
    correction = sequence_mask(rows.old_logprobs - rows.rollout_logprobs, rows.row_offsets, objective)
    return replace(rows, advantages=rows.advantages * correction), replace(objective, importance="none")


@torch.no_grad()
def _metrics(terms: ObjectiveTerms, rows: ObjectiveRows, objective: Objective) -> dict[str, Tensor]:
    assert rows.old_logprobs is not None
    _, metrics = srpo_objective(
        terms.logprobs, rows.old_logprobs, rows.rollout_logprobs, rows.advantages, rows.token_weights,
        objective=objective, row_offsets=rows.row_offsets, ref_logprobs=rows.ref_logprobs, entropy=terms.entropy,
    )  # fmt: skip
    return metrics


def _cross_entropy(statistics: Tensor, weights: Tensor) -> ObjectiveTerms:
    found = reference.merge_statistics(statistics)
    slopes, counts = -weights.to(found.logprobs.dtype), weights != 0
    return ObjectiveTerms(
        logprobs=found.logprobs, entropy=found.entropy, log_normalizer=found.log_normalizer, dlogprobs=slopes,
        dentropy=torch.zeros_like(slopes), loss=(slopes * found.logprobs.where(counts, 0.0)).sum(),
        metrics={"tokens": counts.sum().to(slopes.dtype)},
    )  # fmt: skip


def _output(terms: ObjectiveTerms, spread: Callable[[Tensor], Tensor]) -> HeadOutput:
    """`spread` puts values [K] of the rows that entered where they belong among all [R]."""
    return HeadOutput(
        loss=terms.loss, metrics=terms.metrics, logprobs=spread(terms.logprobs), entropy=spread(terms.entropy)
    )

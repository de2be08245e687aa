"""Passes over the head's rows in chunks: what the vocabulary says of each, and the gradients, without all the logits.

Shapes: K rows enter, n in a chunk, V_tp this rank's columns, D hidden size, W ranks that share the vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from srpo_kernels.head_products import add_product, chunk_rows, exact_dtype, logits_into
from srpo_kernels.objective_rows import ObjectiveTerms
from srpo_kernels.reference import Distribution
from srpo_kernels.row_operations import RowOperations
from srpo_kernels.vocab_shard import VocabShard

TermsOf = Callable[[Tensor, slice], ObjectiveTerms]  # of all ranks' statistics [W, 4, n] of these rows


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRows:
    """What enters the head."""

    hidden: Tensor  # [T, D], of which `rows` are read, a chunk at a time
    weight: Tensor  # [V_tp, D] of operand_dtype
    rows: Tensor  # [K] int64
    labels: Tensor  # [K] int64 token ids
    dead: Tensor | None  # [K] bool, rows that only keep their place: their states, which may be NaN, are read as 0
    vocab: VocabShard
    operations: RowOperations

    def chunks(self, count: int) -> list[slice]:
        """Of `count` rows."""
        size = chunk_rows(len(self.weight), self.weight.device.type)
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def states(self, where: slice | Tensor) -> Tensor:
        """[n, D] of operand_dtype."""
        states = self.hidden.index_select(0, self.rows[where])
        if self.dead is not None:
            states.masked_fill_(self.dead[where][:, None], 0)
        return states.to(self.weight.dtype)

    def logits_buffer(self, count: int) -> Tensor:
        """[n, V_tp] for the largest chunk of `count` rows."""
        longest = self.chunks(count)[0].stop
        return torch.empty(longest, len(self.weight), dtype=exact_dtype(self.weight), device=self.weight.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadGradients:
    """Where a pass leaves its gradients; None: not wanted."""

    hidden: Tensor | None  # [K, D], zeros before
    weight: Tensor | None  # [V_tp, D] exact dtype, added to
    with_entropy: bool  # whether any slope in the entropy can differ from 0

    def add(self, head: HeadRows, where: slice | Tensor, states: Tensor, logits: Tensor, terms: ObjectiveTerms) -> None:
        """The gradients of n rows, at `where` of the K: states [n, D], logits [n, V_tp], which are lost, terms [n]."""
        distribution = Distribution(logprobs=terms.logprobs, entropy=terms.entropy, log_normalizer=terms.log_normalizer)
        dlogits = head.operations.row_gradient(
            logits, head.labels[where], distribution, terms.dlogprobs, terms.dentropy if self.with_entropy else None,
            vocab=head.vocab, dtype=states.dtype,
        )  # fmt: skip
        if self.hidden is not None:
            self.hidden[where] = torch.mm(dlogits, head.weight).to(self.hidden.dtype)
        if self.weight is not None:
            add_product(self.weight, dlogits, states)


def statistics_pass(head: HeadRows) -> Tensor:
    """[W, 4, K], of all ranks: one product a chunk, and one collective."""
    parts = [
        head.operations.linear_statistics(head.states(chunk), head.weight, head.labels[chunk], vocab=head.vocab)
        for chunk in head.chunks(len(head.rows))
    ]
    if not parts:
        return torch.zeros(1, 4, 0, dtype=exact_dtype(head.weight), device=head.weight.device)
    return _of_all_ranks(torch.cat(parts, dim=1), head.vocab.group)


def one_pass(head: HeadRows, terms_of: TermsOf, gradients: HeadGradients) -> ObjectiveTerms:
    """Three products a chunk: `terms_of` a chunk's statistics gives its slopes. One collective a chunk."""
    buffer = head.logits_buffer(len(head.rows))
    parts = []
    for chunk in head.chunks(len(head.rows)):
        states = head.states(chunk)
        logits = logits_into(buffer[: len(states)], states, head.weight)
        statistics = head.operations.row_statistics(logits, head.labels[chunk], vocab=head.vocab)
        terms = terms_of(_of_all_ranks(statistics, head.vocab.group), chunk)
        parts.append(terms)
        live = _rows_with_slope(head, terms)
        if live is None or len(live) == len(states):
            gradients.add(head, chunk, states, logits, terms)
        elif len(live):
            order = _close_gaps(logits, live)
            gradients.add(head, order + chunk.start, states[order], logits[: len(order)], _chosen(terms, order))
    return _joined(parts)


def two_passes(head: HeadRows, terms_of: TermsOf, gradients: HeadGradients) -> ObjectiveTerms:
    """Four products a chunk, for slopes that need the statistics of all rows: the logits are computed again."""
    terms = terms_of(statistics_pass(head), slice(0, len(head.rows)))
    live = _rows_with_slope(head, terms)
    count = len(head.rows) if live is None else len(live)
    if count == 0:
        return terms
    buffer = head.logits_buffer(count)
    for chunk in head.chunks(count):
        where = chunk if live is None else live[chunk]
        states = head.states(where)
        logits = logits_into(buffer[: len(states)], states, head.weight)
        gradients.add(head, where, states, logits, _chosen(terms, where))
    return terms


def _of_all_ranks(statistics: Tensor, group: ProcessGroup | None) -> Tensor:
    """[W, 4, n] in rank order, the same bits on every rank, from each rank's [4, n]."""
    if group is None:
        return statistics[None]
    ranks, (four, n) = group.size(), statistics.shape
    gathered = torch.empty(ranks * four, n, dtype=statistics.dtype, device=statistics.device)
    dist.all_gather_into_tensor(gathered, statistics.contiguous(), group=group)
    return gathered.view(ranks, four, n)


def _rows_with_slope(head: HeadRows, terms: ObjectiveTerms) -> Tensor | None:
    """[m] int64, the others need no backward product; None where the list would wait for the device: then all go, and
    row_gradient writes zeros."""
    if head.operations.kept_rows is None:
        return None
    return ((terms.dlogprobs != 0) | (terms.dentropy != 0)).nonzero().flatten()


def _close_gaps(logits: Tensor, live: Tensor) -> Tensor:
    """[m] int64: the live rows [m] in the order in which they now are the first m rows of `logits` [n, V_tp].

    Only rows beyond the m-th move, into gaps below it: a copy of all live rows costs more than a few rows' products.
    """
    count = len(live)
    order = torch.arange(count, device=live.device)
    is_gap = torch.ones(count, dtype=torch.bool, device=live.device).index_fill_(0, live[live < count], False)
    gaps, moved = is_gap.nonzero().flatten(), live[live >= count]
    logits[gaps] = logits[moved]
    order[gaps] = moved
    return order


def _chosen(terms: ObjectiveTerms, where: slice | Tensor) -> ObjectiveTerms:
    return replace(
        terms, logprobs=terms.logprobs[where], entropy=terms.entropy[where],
        log_normalizer=terms.log_normalizer[where], dlogprobs=terms.dlogprobs[where], dentropy=terms.dentropy[where],
    )  # fmt: skip


def _joined(parts: list[ObjectiveTerms]) -> ObjectiveTerms:
    """Of chunks in order; metrics are sums but for ratio_max."""
    if len(parts) == 1:
        return parts[0]
    metrics = {name: torch.stack([part.metrics[name] for part in parts]) for name in parts[0].metrics}
    return ObjectiveTerms(
        logprobs=torch.cat([part.logprobs for part in parts]), entropy=torch.cat([part.entropy for part in parts]),
        log_normalizer=torch.cat([part.log_normalizer for part in parts]),
        dlogprobs=torch.cat([part.dlogprobs for part in parts]), dentropy=torch.cat([part.dentropy for part in parts]),
        loss=torch.stack([part.loss for part in parts]).sum(),
        metrics={name: values.amax() if name == "ratio_max" else values.sum() for name, values in metrics.items()},
    )  # fmt: skip

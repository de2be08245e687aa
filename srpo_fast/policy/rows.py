"""The rows of a micro-batch that one rank computes.

Tokens are padded to what the ranks divide evenly, then cut into one contiguous run a context-parallel rank. Loss rows
are dealt out by whole sequences instead, so that an objective over sequences finds all of its rows on one rank.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from srpo_fast.batch import MicroBatch
from srpo_fast.parallel import Parallel


def padded_length(tokens: int, parallel: Parallel) -> int:
    """The next number of tokens that the ranks which share rows divide."""
    return tokens + -tokens % (parallel.cp * (parallel.tp if parallel.sequence_parallel else 1))


def share_of_rank(batch: MicroBatch, parallel: Parallel, at_least: int = 0) -> MicroBatch:
    """This rank's tokens and loss rows. `cu_seqlens` and the numbers in `loss_rows` stay those of all its tokens.

    at_least: tokens to pad to, before they are shared.
    """
    batch = _padded(batch, padded_length(max(len(batch.input_ids), at_least), parallel))
    if parallel.cp == 1:
        return batch
    share = len(batch.input_ids) // parallel.cp
    start = share * parallel.cp_rank
    mine = slice(start, start + share)
    images = (batch.image_rows >= start) & (batch.image_rows < start + share)
    batch = replace(
        batch,
        input_ids=batch.input_ids[mine],
        position_ids=batch.position_ids[:, mine],
        image_rows=batch.image_rows[images] - start,
        feature_rows=batch.feature_rows[images],
    )
    return batch.with_loss_rows(loss_rows_of_rank(batch, parallel))


def loss_rows_of_rank(batch: MicroBatch, parallel: Parallel) -> Tensor:
    """[R] bool: the loss rows of the sequences that this context-parallel rank scores, every cp-th one."""
    return batch.sequence_of_row() % parallel.cp == parallel.cp_rank


def empty_like(batch: MicroBatch) -> MicroBatch:
    """A micro-batch of one padding token and no loss: where a schedule wants more micro-batches than there are."""
    nothing = batch.image_rows[:0]
    one = replace(
        batch, input_ids=batch.input_ids[:1] * 0, position_ids=batch.position_ids[:, :1] * 0,
        cu_seqlens=torch.tensor([0, 1], dtype=torch.int32), image_rows=nothing, feature_rows=nothing,
    )  # fmt: skip
    return one.with_loss_rows(torch.zeros(len(batch.loss_rows), dtype=torch.bool))


def _padded(batch: MicroBatch, length: int) -> MicroBatch:
    """Padding is sequences of their own at the end, none the longest: no token attends to them, they have no loss."""
    end = len(batch.input_ids)
    if end == length:
        return batch
    ends = [*range(end + batch.max_seqlen, length, batch.max_seqlen), length]
    return replace(
        batch,
        input_ids=F.pad(batch.input_ids, (0, length - end)),
        position_ids=F.pad(batch.position_ids, (0, length - end)),
        cu_seqlens=torch.cat([batch.cu_seqlens, torch.tensor(ends, dtype=torch.int32)]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpans:
    """Which keys a context-parallel rank's queries see: each run of queries ends where its keys end."""

    cu_seqlens_q: Tensor  # [S + 1] int32, of this rank's rows
    cu_seqlens_kv: Tensor  # [S + 1] int32, of the rows in `kv`
    max_seqlen_q: int
    max_seqlen_kv: int
    kv: slice  # of all rows


def attention_spans(cu_seqlens: Tensor, parallel: Parallel) -> AttentionSpans:
    """The spans of this rank's rows among packed sequences with these bounds [S + 1] int32."""
    bounds = cu_seqlens.cpu().long()
    share = int(bounds[-1]) // parallel.cp
    start = share * parallel.cp_rank
    here = (bounds[:-1] < start + share) & (bounds[1:] > start)
    starts, ends = bounds[:-1][here], bounds[1:][here].clamp(max=start + share)
    queries, keys = ends - starts.clamp(min=start), ends - starts

    def cumulative(lengths: Tensor) -> Tensor:
        return F.pad(lengths.cumsum(0), (1, 0)).int().to(cu_seqlens.device)

    return AttentionSpans(
        cu_seqlens_q=cumulative(queries), cu_seqlens_kv=cumulative(keys), max_seqlen_q=int(queries.max()),
        max_seqlen_kv=int(keys.max()), kv=slice(int(starts[0]), int(ends[-1])),
    )  # fmt: skip

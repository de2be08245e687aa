"""The rows of a micro-batch that one rank computes.

Tokens are padded to what the ranks divide evenly, then cut into one contiguous run a context-parallel rank. Loss rows
are dealt out by whole sequences instead, so that an objective over sequences finds all of its rows on one rank.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from srpo_fast.batch import Keys, MicroBatch
from srpo_fast.packing import offsets
from srpo_fast.parallel import Parallel


def padded_length(tokens: int, parallel: Parallel) -> int:
    """The next number of tokens that the ranks which share rows divide."""
    return tokens + -tokens % (parallel.cp * (parallel.tp if parallel.sequence_parallel else 1))


def share_of_rank(batch: MicroBatch, parallel: Parallel, at_least: int = 0) -> MicroBatch:
    """This rank's tokens and loss rows. `cu_seqlens`, `keys` and the numbers in `loss_rows` stay those of all tokens.

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
        keys=None,
    )  # fmt: skip
    return one.with_loss_rows(torch.zeros(len(batch.loss_rows), dtype=torch.bool))


def _padded(batch: MicroBatch, length: int) -> MicroBatch:
    """Padding is sequences of their own at the end, none the longest: no token attends to them, they have no loss."""
    end = len(batch.input_ids)
    if end == length:
        return batch
    ends = torch.tensor([*range(end + batch.max_seqlen, length, batch.max_seqlen), length], dtype=torch.int32)
    return replace(
        batch,
        input_ids=F.pad(batch.input_ids, (0, length - end)),
        position_ids=F.pad(batch.position_ids, (0, length - end)),
        cu_seqlens=torch.cat([batch.cu_seqlens, ends]),
        keys=batch.keys and _padded_keys(batch.keys, end, ends),
    )


def _padded_keys(keys: Keys, end: int, ends: Tensor) -> Keys:
    """Padding attends to itself."""
    rows = torch.cat([keys.rows, torch.arange(end, int(ends[-1]))])
    return replace(keys, rows=rows, cu_seqlens=torch.cat([keys.cu_seqlens, keys.cu_seqlens[-1] + ends - end]))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpans:
    """Which keys a context-parallel rank's queries see: each run of queries ends where its keys end."""

    cu_seqlens_q: Tensor  # [S + 1] int32, of this rank's rows
    cu_seqlens_kv: Tensor  # [S + 1] int32, of the rows in `kv`
    max_seqlen_q: int
    max_seqlen_kv: int
    kv: slice | Tensor  # of all rows; [K] int64 where prompts are shared


def attention_spans(cu_seqlens: Tensor, keys: Keys | None, parallel: Parallel) -> AttentionSpans:
    """The spans of this rank's rows among packed sequences with these bounds [S + 1] int32."""
    bounds = cu_seqlens.cpu().long()
    share = int(bounds[-1]) // parallel.cp
    start = share * parallel.cp_rank
    here = (bounds[:-1] < start + share) & (bounds[1:] > start)
    starts, ends = bounds[:-1][here], bounds[1:][here].clamp(max=start + share)
    queries, lengths, kv = ends - starts.clamp(min=start), ends - starts, slice(int(starts[0]), int(ends[-1]))
    if keys is not None:
        first, last = (edge[here] for edge in (keys.cu_seqlens[:-1].cpu(), keys.cu_seqlens[1:].cpu()))
        last = last - (bounds[1:][here] - ends)  # less what other ranks hold
        lengths = last - first
        kv = torch.cat([keys.rows[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)])
    device = cu_seqlens.device
    return AttentionSpans(
        cu_seqlens_q=offsets(queries).to(device), cu_seqlens_kv=offsets(lengths).to(device),
        max_seqlen_q=int(queries.max()), max_seqlen_kv=int(lengths.max()), kv=kv,
    )  # fmt: skip

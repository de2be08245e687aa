"""Rows for the row operations: logits of every kind, labels, shards."""

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.vocab_shard import VocabShard

BANNED = torch.tensor([0, 5, 28])


def make_logits(n: int, V: int, dtype: torch.dtype = torch.float32, *, shift: float = 0.0) -> Tensor:
    """[n, V], peaked as a trained model's, in rows that lie apart; one column of the second row is -inf."""
    logits = (4 * torch.randn(n, V) + shift).to(dtype)
    if n > 1:
        logits[1, V // 2] = -torch.inf
    apart = torch.full((n, V + 24), torch.nan, dtype=dtype)
    apart[:, :V] = logits
    return apart[:, :V]


def make_labels(n: int, V: int) -> Tensor:
    """[n] int64: the last column and the first among them."""
    labels = torch.randint(V, (n,))
    labels[:2] = torch.tensor([V - 1, 0])[:n]
    return labels


def make_operands(n: int, D: int, V: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Hidden states [n, D] in rows that lie apart, and a weight [V, D]: logits of standard deviation 4."""
    apart = torch.full((n, D + 8), torch.nan, dtype=dtype)
    apart[:, :D] = torch.randn(n, D)
    return apart[:, :D], (4 * D**-0.5 * torch.randn(V, D)).to(dtype)


def shards_of(V: int, ranks: int, temperature: float, banned: Tensor | None) -> list[VocabShard]:
    """Of equal width; `banned` are ids in the whole vocabulary."""
    width = V // ranks
    shards = []
    for start in range(0, V, width):
        here = None if banned is None else banned[(banned >= start) & (banned < start + width)] - start
        shards.append(VocabShard(start=start, temperature=temperature, banned_columns=here))
    return shards


def statistics_by(
    linear_statistics: Callable[..., Tensor], hidden: Tensor, weight: Tensor, labels: Tensor, ranks: int,
    temperature: float, banned: Tensor,
) -> Tensor:  # fmt: skip
    """[ranks, 4, n], each rank with its part of the weight's rows."""
    shards = shards_of(len(weight), ranks, temperature, banned)
    parts = zip(weight.chunk(ranks), shards, strict=True)
    return torch.stack([linear_statistics(hidden, part, labels, vocab=shard) for part, shard in parts])


def make_statistics(ranks: int, n: int) -> Tensor:
    """[ranks, 4, n] fp32, of log-probs between about -8 and 0; the last rank has the labels."""
    logits = make_logits(n, 40 * ranks)
    parts = torch.stack(logits.nan_to_num(neginf=-30.0).split(40, dim=1))
    top = parts.amax(2)
    mass = (parts - top[..., None]).exp()
    statistics = torch.stack([top, mass.sum(2), (mass * (parts - top[..., None])).sum(2), 0 * top], dim=1)
    statistics[-1, 3] = parts.amax((0, 2)) - 2 * torch.rand(n)
    return statistics


def make_rows(logprobs: Tensor, *, spread: float = 0.3) -> ObjectiveRows:
    """Of a policy that has moved from the old one, the engine and the reference; every fifth row is padding."""

    def near() -> Tensor:
        return logprobs + spread * torch.randn(len(logprobs))

    n = len(logprobs)
    weights = torch.rand(n) / (n + 1)
    weights[4::5] = 0
    advantages = torch.randn(n)
    advantages[2::7] = 0
    return ObjectiveRows(
        rollout_logprobs=near(), advantages=advantages, token_weights=weights, old_logprobs=near(),
        ref_logprobs=near(), row_offsets=torch.tensor([0, n // 3, n // 3, n], dtype=torch.int32),
    )  # fmt: skip


def in_float64(rows: ObjectiveRows) -> ObjectiveRows:
    values = {f.name: getattr(rows, f.name) for f in fields(rows)}
    exact = {name: v.double() for name, v in values.items() if v is not None and v.is_floating_point()}
    return replace(rows, **exact)

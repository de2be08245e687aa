"""Copies of weight matrices from the trainer's layout into the engine's.

Shapes: R rows, C columns. An attention layer's rows come in heads of `head_rows` rows, `groups` groups of
`queries_per_group` query heads, a key head and a value head.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class RowOrder(enum.IntEnum):
    """What becomes of the rows; SrpoRowOrder of csrc/sync_copy.h."""

    PLAIN = 0
    STACK = 1  # Megatron's groups q .. q k v are taken apart: all q, all k, all v, as vLLM has them
    GROUP = 2  # and put together again


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCopy:
    """target[i] = source[row of i], cast. Parts of a matrix, such as gate and up, are copies into parts of it."""

    source: Tensor  # [R, C] or [R], fp32 or bf16, columns side by side
    target: Tensor  # likewise; overwritten
    order: RowOrder = RowOrder.PLAIN
    head_rows: int = 1
    queries_per_group: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        assert self.source.shape == self.target.shape, (self.source.shape, self.target.shape)
        if self.order is not RowOrder.PLAIN:
            expected = self.groups * (self.queries_per_group + 2) * self.head_rows
            assert len(self.source) == expected, f"{len(self.source)} rows, expected {expected} of the heads given"


@torch.no_grad()
def sync_copy(copies: Sequence[RowCopy]) -> None:
    """Does all copies; no target may overlap a source or another target."""
    for copy in copies:
        copy.target.copy_(copy.source if copy.order is RowOrder.PLAIN else copy.source[_source_rows(copy)])


def _source_rows(copy: RowCopy) -> Tensor:
    """[R] int64: the source's row of each of the target's."""
    rows = torch.arange(len(copy.source), device=copy.source.device)
    groups = rows.view(copy.groups, copy.queries_per_group + 2, copy.head_rows)
    queries, keys, values = groups[:, :-2], groups[:, -2], groups[:, -1]
    stacked = torch.cat([part.reshape(-1) for part in (queries, keys, values)])
    return stacked if copy.order is RowOrder.STACK else stacked.argsort()

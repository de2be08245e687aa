"""Which implementation of the row operations a device has: the one place that chooses."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from srpo_kernels import native_rows
from srpo_kernels.objective import Objective
from srpo_kernels.objective_rows import ObjectiveRows, ObjectiveTerms
from srpo_kernels.reference import rows
from srpo_kernels.vocab_shard import VocabShard


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOperations:
    """The functions of reference/rows.py, by name, and `kept_rows` of reference/head.py."""

    row_statistics: Callable[..., Tensor]
    linear_statistics: Callable[..., Tensor]
    objective_rows: Callable[..., ObjectiveTerms]
    row_gradient: Callable[..., Tensor]
    kept_rows: Callable[[ObjectiveRows, Objective], Tensor] | None  # None: a list of rows would wait for the device


def operations_for(device: torch.device) -> RowOperations:
    return _on_cuda() if device.type == "cuda" else _ON_CPU


def _linear_statistics(hidden: Tensor, weight: Tensor, labels: Tensor, *, vocab: VocabShard) -> Tensor:
    """Of fp32 operands. On a CPU a product has no epilogue: one chunk's logits are stored after all."""
    return native_rows.row_statistics(hidden @ weight.T, labels, vocab=vocab)


_ON_CPU = RowOperations(
    row_statistics=native_rows.row_statistics, linear_statistics=_linear_statistics,
    objective_rows=rows.objective_rows, row_gradient=native_rows.row_gradient, kept_rows=native_rows.kept_rows,
)  # fmt: skip


@functools.cache
def _on_cuda() -> RowOperations:
    from srpo_kernels import triton_rows

    return RowOperations(
        row_statistics=triton_rows.row_statistics, linear_statistics=triton_rows.linear_statistics,
        objective_rows=triton_rows.objective_rows, row_gradient=triton_rows.row_gradient, kept_rows=None,
    )  # fmt: skip

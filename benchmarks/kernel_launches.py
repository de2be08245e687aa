"""The launches of the head's Triton kernels that training makes, with tensors that have a shape and no data."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from srpo_kernels import Objective, triton_rows
from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.reference import Distribution
from srpo_kernels.vocab_shard import VocabShard

ROWS = 4096
COLUMNS = 152_064  # Qwen2.5-VL-7B's
HIDDEN = 3584


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _shard(banned: int | None) -> VocabShard:
    return VocabShard(banned_columns=None if banned is None else _empty(banned, dtype=torch.int64))


def _linear(dtype: torch.dtype, banned: int | None) -> None:
    triton_rows.linear_statistics(
        _empty(ROWS, HIDDEN, dtype=dtype), _empty(COLUMNS, HIDDEN, dtype=dtype), _empty(ROWS, dtype=torch.int64),
        vocab=_shard(banned),
    )  # fmt: skip


def _statistics(dtype: torch.dtype, banned: int | None) -> None:
    triton_rows.row_statistics(
        _empty(ROWS, COLUMNS, dtype=dtype), _empty(ROWS, dtype=torch.int64), vocab=_shard(banned)
    )


def _gradient(read: torch.dtype, written: torch.dtype, banned: int | None, with_entropy: bool) -> None:
    distribution = Distribution(logprobs=_empty(ROWS), entropy=_empty(ROWS), log_normalizer=_empty(ROWS))
    triton_rows.row_gradient(
        _empty(ROWS, COLUMNS, dtype=read), _empty(ROWS, dtype=torch.int64), distribution, _empty(ROWS),
        _empty(ROWS) if with_entropy else None, vocab=_shard(banned), dtype=written,
    )  # fmt: skip


def _objective(ranks: int, objective: Objective, with_old: bool) -> None:
    rows = ObjectiveRows(
        rollout_logprobs=_empty(ROWS), advantages=_empty(ROWS), token_weights=_empty(ROWS),
        row_offsets=_empty(9, dtype=torch.int32), old_logprobs=_empty(ROWS) if with_old else None,
        ref_logprobs=_empty(ROWS) if objective.needs_reference else None,
    )  # fmt: skip
    triton_rows.objective_rows(_empty(ranks, 4, ROWS), rows, objective=objective)


LAUNCHES: dict[str, Callable[[], Any]] = {
    "linear_statistics bf16": partial(_linear, torch.bfloat16, None),
    "linear_statistics bf16 banned": partial(_linear, torch.bfloat16, 12),
    "linear_statistics fp32": partial(_linear, torch.float32, 12),
    "row_statistics fp32": partial(_statistics, torch.float32, None),
    "row_statistics fp32 banned": partial(_statistics, torch.float32, 12),
    "row_statistics bf16 banned": partial(_statistics, torch.bfloat16, 12),
    "row_gradient fp32 to bf16": partial(_gradient, torch.float32, torch.bfloat16, None, False),
    "row_gradient fp32 to bf16 banned": partial(_gradient, torch.float32, torch.bfloat16, 12, False),
    "row_gradient fp32 to bf16 entropy": partial(_gradient, torch.float32, torch.bfloat16, 12, True),
    "row_gradient bf16 entropy": partial(_gradient, torch.bfloat16, torch.bfloat16, 12, True),
    "objective_rows grpo": partial(_objective, 1, Objective(importance="truncate", importance_cap=2.0), False),
    "objective_rows all terms": partial(
        _objective, 8, Objective(importance="icepop", kl_coef=0.1, entropy_coef=0.1, dual_clip=3.0), True
    ),
    "objective_rows cispo": partial(_objective, 2, Objective(surrogate="cispo", kl="k2", kl_coef=0.1), True),
}

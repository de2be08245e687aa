"""The row operations in C++: statistics and gradient of rows of logits on a CPU, one pass over the columns each.

The specification is reference/rows.py, and `kept_rows` of reference/head.py. Rows of fp32 and bf16 with contiguous
columns run natively, others and machines without the library on the twins. The bits do not depend on the number of
threads, nor on whether the processor has AVX2 or AVX-512.

`torch.ops.srpo_native.row_statistics` and `.row_gradient_` are the same with plain arguments, and have shapes without
data.
"""

import ctypes
import enum

import torch
from torch import Tensor

from srpo_kernels import native, reference
from srpo_kernels.objective import Objective
from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.reference.head import kept_rows as reference_kept_rows
from srpo_kernels.reference.rows import Distribution
from srpo_kernels.vocab_shard import BANNED_BIAS, VocabShard

NATIVE_DTYPES = (torch.float32, torch.bfloat16)


class Isa(enum.IntEnum):
    """The instructions to use: SrpoIsa of csrc/srpo_native.h. BEST is what the processor has."""

    BEST = 0
    PLAIN = 1
    AVX2 = 2
    AVX512 = 3


def has_isa(isa: Isa) -> bool:
    library = native.library()
    return library is not None and bool(library.srpo_has_isa(isa))


def row_statistics(logits: Tensor, labels: Tensor, *, vocab: VocabShard) -> Tensor:
    """[4, n] fp32, as in the reference; within 1e-6 of fp64, relative, for any logits."""
    if not _is_native(logits):
        return reference.row_statistics(logits, labels, vocab=vocab)
    return torch.ops.srpo_native.row_statistics(
        logits, labels, vocab.start, vocab.temperature, vocab.banned_columns, torch.get_num_threads(), Isa.BEST
    )


def row_gradient(
    logits: Tensor, labels: Tensor, distribution: Distribution, dlogprobs: Tensor, dentropy: Tensor | None, *,
    vocab: VocabShard, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """[n, V_tp] of `dtype` in the storage of `logits`, as in the reference; of bf16 logits' fp32 gradient, its own."""
    if not _is_native(logits) or dtype not in NATIVE_DTYPES:
        return reference.row_gradient(logits, labels, distribution, dlogprobs, dentropy, vocab=vocab, dtype=dtype)
    out = _storage_for_gradient(logits, dtype)
    torch.ops.srpo_native.row_gradient_(
        logits, labels, distribution.entropy, distribution.log_normalizer, dlogprobs, dentropy, out,
        vocab.start, vocab.temperature, vocab.banned_columns, torch.get_num_threads(), Isa.BEST,
    )  # fmt: skip
    return out


def kept_rows(rows: ObjectiveRows, objective: Objective) -> Tensor:
    """[K] int64 ascending, as in the reference."""
    library = native.library()
    weights, advantages = rows.token_weights, rows.advantages
    if library is None or weights.device.type != "cpu" or {weights.dtype, advantages.dtype} != {torch.float32}:
        return reference_kept_rows(rows, objective)
    weights, advantages, offsets = weights.contiguous(), advantages.contiguous(), rows.row_offsets.int().contiguous()
    kept = torch.empty(len(weights), dtype=torch.int64)
    is_by_sequence = objective.ratio == "sequence" or objective.importance == "sequence_mask"
    count = library.srpo_kept_rows(
        weights.data_ptr(), None if objective.trains_zero_advantage else advantages.data_ptr(), len(weights),
        offsets.data_ptr() if is_by_sequence else None, len(offsets) - 1, kept.data_ptr(),
    )  # fmt: skip
    return kept[:count]


def _is_native(logits: Tensor) -> bool:
    is_ours = logits.device.type == "cpu" and logits.dtype in NATIVE_DTYPES and (logits.stride(1) == 1)
    return is_ours and native.library() is not None


def _storage_for_gradient(logits: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype == logits.dtype:
        return logits
    if dtype.itemsize > logits.dtype.itemsize:
        return torch.empty(logits.shape, dtype=dtype)
    return logits.view(dtype)[:, : logits.shape[1]]  # the first half of every row's bytes


# --- the operations as torch knows them ---

_OPS = torch.library.Library("srpo_native", "DEF")
_ROWS = "int first_token, float temperature, Tensor? banned_columns, int threads, int isa"
_OPS.define(f"row_statistics(Tensor logits, Tensor labels, {_ROWS}) -> Tensor")
_OPS.define(
    "row_gradient_(Tensor logits, Tensor labels, Tensor entropy, Tensor log_normalizer, Tensor dlogprobs, "
    f"Tensor? dentropy, Tensor(a!) out, {_ROWS}) -> ()"
)


@torch.library.impl(_OPS, "row_statistics", "CPU")
def _row_statistics(
    logits: Tensor, labels: Tensor, first_token: int, temperature: float, banned_columns: Tensor | None,
    threads: int, isa: int,
) -> Tensor:  # fmt: skip
    labels, banned = _int64(labels), None if banned_columns is None else _int64(banned_columns)
    statistics = torch.empty(4, len(logits))
    native.library().srpo_row_statistics(
        ctypes.byref(_logits(logits, labels, first_token, temperature, banned, threads, isa)), statistics.data_ptr()
    )
    return statistics


@torch.library.register_fake("srpo_native::row_statistics", lib=_OPS)
def _(logits: Tensor, labels: Tensor, *_: object) -> Tensor:
    return logits.new_empty(4, logits.shape[0], dtype=torch.float32)


@torch.library.impl(_OPS, "row_gradient_", "CPU")
def _row_gradient_(
    logits: Tensor, labels: Tensor, entropy: Tensor, log_normalizer: Tensor, dlogprobs: Tensor,
    dentropy: Tensor | None, out: Tensor, first_token: int, temperature: float, banned_columns: Tensor | None,
    threads: int, isa: int,
) -> None:  # fmt: skip
    labels, banned = _int64(labels), None if banned_columns is None else _int64(banned_columns)
    rows = [None if t is None else t.float().contiguous() for t in (entropy, log_normalizer, dlogprobs, dentropy)]
    assert out.stride(1) == 1, out.stride()
    assert out.dtype in NATIVE_DTYPES, out.dtype
    native.library().srpo_row_gradient(
        ctypes.byref(_logits(logits, labels, first_token, temperature, banned, threads, isa)),
        *(None if t is None else t.data_ptr() for t in rows),
        out.data_ptr(), out.stride(0), out.dtype == torch.bfloat16,
    )  # fmt: skip


@torch.library.register_fake("srpo_native::row_gradient_", lib=_OPS)
def _(*_: object) -> None:
    return None


def _int64(values: Tensor) -> Tensor:
    return values.to(torch.int64).contiguous()


def _logits(
    logits: Tensor, labels: Tensor, first_token: int, temperature: float, banned: Tensor | None, threads: int, isa: int
) -> native.Logits:
    """The C struct; the tensors have to outlive it."""
    assert has_isa(Isa(isa)), f"this processor has no {Isa(isa).name}"
    assert labels.shape == logits.shape[:1], (labels.shape, logits.shape)
    assert logits.stride(1) == 1, logits.stride()
    return native.Logits(
        data=logits.data_ptr(), num_rows=logits.shape[0], num_columns=logits.shape[1], row_stride=logits.stride(0),
        labels=labels.data_ptr(), first_token=first_token,
        banned_columns=None if banned is None else banned.data_ptr(), num_banned=0 if banned is None else len(banned),
        banned_bias=BANNED_BIAS, temperature=temperature, is_bf16=logits.dtype == torch.bfloat16,
        num_threads=threads, isa=isa,
    )  # fmt: skip

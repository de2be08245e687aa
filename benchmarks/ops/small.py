"""The operations that the head and the packer are made of, each against its twin."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import srpo_kernels
from benchmarks.ceilings import copy_probe
from benchmarks.ops.measure import Measured, Protocol, measure
from srpo_kernels import native, native_rows, reference
from srpo_kernels.vocab_shard import VocabShard

COPIED = 64 << 20  # bytes: far more than a second-level cache holds, as a chunk of logits is


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallCase:
    op: str
    workload: str
    ours: Callable[[], Tensor]
    torch: Callable[[], Tensor]  # the twin
    tolerance: float  # of the largest element
    bytes: float | None  # that have to be read and written; None where bytes are not what it is about


def measure_small(protocol: Protocol) -> Iterator[Measured]:
    """On this CPU; nothing where there is no native library to measure."""
    if not native.is_available():
        return
    for case in _cases():
        ours, true = case.ours(), case.torch()
        error = float((ours - true).abs().max() / true.abs().max().clamp(min=1))
        assert error <= case.tolerance, f"{case.op} on {case.workload} is off by {error:.1e}"
        name = f"copy_bytes/{case.op}/{case.workload}"
        yield measure(
            case.op, case.workload, {"ours": case.ours, "torch": case.torch}, protocol,
            floor_work=case.bytes, probes={} if case.bytes is None else {name: copy_probe(COPIED, "cpu")}, skipped=[],
        )  # fmt: skip


def _cases() -> Iterator[SmallCase]:
    generator = torch.Generator().manual_seed(0)
    # 16 and 128 prompts with 8 completions each: a step of the embedded run, and of a 7B run with a long tail
    for S, budget in ((128, 2_048), (1_024, 16_384)):
        drawn = torch.randn(S, generator=generator).exp() * budget / 12
        yield _packing(drawn.long().clamp(min=1, max=budget), budget)
    for n, V in ((256, 32_768), (64, 152_064)):
        yield from _rows(torch.randn(n, V, generator=generator) * 2)


def _packing(lengths: Tensor, budget: int) -> SmallCase:
    return SmallCase(
        op="pack_sequences", workload=f"S={len(lengths)} budget={budget}", tolerance=0.0, bytes=None,
        ours=lambda: srpo_kernels.pack_sequences(lengths, budget),
        torch=lambda: reference.pack_sequences(lengths, budget),
    )  # fmt: skip


def _rows(logits: Tensor) -> Iterator[SmallCase]:
    n, V = logits.shape
    workload, vocab, labels = f"n={n} V={V}", VocabShard(), torch.arange(n)
    yield SmallCase(
        op="row_statistics", workload=workload, tolerance=1e-5, bytes=logits.nbytes,
        ours=lambda: native_rows.row_statistics(logits, labels, vocab=vocab),
        torch=lambda: reference.row_statistics(logits, labels, vocab=vocab),
    )  # fmt: skip
    found = reference.merge_statistics(reference.row_statistics(logits, labels, vocab=vocab)[None])
    slopes, scratch = torch.ones(n), logits.clone()

    def in_place() -> Tensor:
        # what it finds the second time is a gradient, which takes as long: the values do not matter to it
        return native_rows.row_gradient(scratch, labels, found, slopes, None, vocab=vocab, dtype=torch.float32)

    yield SmallCase(
        op="row_gradient", workload=workload, tolerance=1e-5, bytes=2 * logits.nbytes, ours=in_place,
        torch=lambda: reference.row_gradient(logits, labels, found, slopes, None, vocab=vocab, dtype=torch.float32),
    )  # fmt: skip

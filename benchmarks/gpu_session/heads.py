"""Sections about the whole head: against other libraries, at its longest, and where its time goes."""

from collections.abc import Collection, Iterator
from dataclasses import asdict

import torch

from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.kernel_times import kernel_times
from benchmarks.gpu_session.scale import Scale
from benchmarks.ops.measure import Protocol, measure_head
from benchmarks.ops.variants import head_variants
from benchmarks.ops.workloads import HeadWorkload, make_case

EAGER = ("ours", "torch", "torch_live_rows", "torch_full_logits", "liger_chunked", "liger_triton", "trl")


def head(scale: Scale) -> Iterator[Row]:
    """Without torch.compile, which takes longer than all the rest."""
    for workload in scale.heads:
        yield from _measured(workload, scale, EAGER)


def head_compiled(scale: Scale) -> Iterator[Row]:
    yield from _measured(scale.heads[0], scale, ("ours", "torch_compile") if scale.device == "cuda" else ("ours",))


def head_of_65536_rows(scale: Scale) -> Iterator[Row]:
    """Ours alone: with the logits of all rows no other fits."""
    yield from _measured(scale.long_head, scale, ("ours",))


def head_profile(scale: Scale) -> Iterator[Row]:
    case = make_case(scale.heads[0], scale.device)
    ours = next(variant for variant in head_variants(case) if variant.name == "ours")
    assert ours.run is not None
    yield from kernel_times(ours.run)


def _measured(workload: HeadWorkload, scale: Scale, only: Collection[str]) -> Iterator[Row]:
    measured = measure_head(workload, Protocol(device=scale.device, rounds=scale.rounds), only)
    yield from (asdict(row) for row in (*measured.rows, *measured.skipped))
    yield {"ceilings": measured.ceilings}
    if scale.device == "cuda":
        torch.cuda.empty_cache()

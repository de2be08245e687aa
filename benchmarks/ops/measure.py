"""A set of variants on one workload: checked, timed in turns beside the machine's ceiling, and their memory taken."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from benchmarks.ceilings import Probe, gemm_probe
from benchmarks.memory import extra_bytes
from benchmarks.ops.truth import true_step, wrong_by
from benchmarks.ops.variants import Variant, head_variants
from benchmarks.ops.workloads import HeadCase, HeadWorkload, make_case
from benchmarks.timing import Spread, speedup, time_in_turns

GEMMS = 3  # logits, and the gradients of hidden states and weight: an exact head needs each once, of rows that count
MAX_PROBE_ROWS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    device: str = "cpu"
    rounds: int
    clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    op: str
    workload: str
    variant: str
    ms_p20: float
    ms_p50: float
    ms_p80: float
    extra_bytes: int  # high-water mark beside what is given and what is returned
    efficiency: float | None  # the least time that the ceilings allow, over p50; None: no such floor is known
    ours_is_faster: Spread | None  # round by round; None for ours itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    op: str
    workload: str
    variant: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    rows: list[Row]
    skipped: list[Skipped]
    ceilings: dict[str, float]


def measure_head(workload: HeadWorkload, protocol: Protocol, only: Collection[str] | None = None) -> Measured:
    """only: the variants' names; None: all."""
    device = protocol.device
    case = make_case(workload, device)
    wrong = _wrong_variants(workload, case, only)
    variants = [_skipped_if_wrong(v, wrong) for v in head_variants(case) if only is None or v.name in only]
    runs = {variant.name: variant.run for variant in variants if variant.run is not None}
    rows_of_probe = min(case.kept, MAX_PROBE_ROWS)
    probe = gemm_probe(rows_of_probe, workload.hidden_size, workload.vocabulary, workload.dtype, device)
    flops = GEMMS * 2.0 * case.kept * workload.hidden_size * workload.vocabulary
    return measure(
        "head", workload.name, runs, protocol, floor_work=flops,
        probes={f"gemm_flops/{workload.name}": probe},
        skipped=[
            Skipped(op="head", workload=workload.name, variant=variant.name, reason=variant.skipped)
            for variant in variants if variant.run is None
        ],
    )  # fmt: skip


def measure(
    op: str, workload: str, runs: Mapping[str, Callable[[], object]], protocol: Protocol, *,
    floor_work: float | None, probes: Mapping[str, Probe], skipped: list[Skipped],
) -> Measured:  # fmt: skip
    """floor_work: what has to be done at the rate of the one probe; None where nothing like it is known."""
    extra = {name: extra_bytes(run, protocol.device) for name, run in runs.items()}
    seconds = time_in_turns(
        {**runs, **{name: probe.run for name, probe in probes.items()}}, rounds=protocol.rounds, min_timing_s=0.005,
        clock=protocol.clock, settle=torch.cuda.synchronize if protocol.device == "cuda" else lambda: None,
    )  # fmt: skip
    ceilings = {name: probe.rate(seconds[name]) for name, probe in probes.items()}
    floor_s = None if floor_work is None else floor_work / next(iter(ceilings.values()))
    rows = list(_rows(op, workload, {name: seconds[name] for name in runs}, extra, floor_s))
    return Measured(rows=rows, skipped=skipped, ceilings=ceilings)


def _rows(
    op: str, workload: str, seconds: dict[str, list[float]], extra: dict[str, int], floor_s: float | None
) -> Iterator[Row]:
    for name, values in seconds.items():
        spread = Spread.of([1e3 * s for s in values])
        yield Row(
            op=op, workload=workload, variant=name, ms_p20=spread.p20, ms_p50=spread.p50, ms_p80=spread.p80,
            extra_bytes=extra[name], efficiency=None if floor_s is None else 1e3 * floor_s / spread.p50,
            ours_is_faster=None if name == "ours" else speedup(values, seconds["ours"]),
        )  # fmt: skip


def _wrong_variants(workload: HeadWorkload, case: HeadCase, only: Collection[str] | None) -> dict[str, str]:
    """What is wrong with results, by variant. That ours are right is asserted."""
    truth = true_step(case)
    wrong = {}
    for variant in head_variants(case):
        if variant.run is None or (only is not None and variant.name not in only):
            continue
        try:
            what = wrong_by(variant.run(), truth, workload.dtype)
        except torch.OutOfMemoryError:
            what = "does not fit into the GPU's memory"
        if what:
            assert variant.name != "ours", f"ours on {workload.name}: {what}"
            wrong[variant.name] = what
    return wrong


def _skipped_if_wrong(variant: Variant, wrong: dict[str, str]) -> Variant:
    return replace(variant, run=None, skipped=wrong[variant.name]) if variant.name in wrong else variant

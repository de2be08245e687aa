"""Native operations against their PyTorch twins: one line a workload, one JSON document as the last line of stdout."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

import srpo_kernels
from benchmarks.machine import machine
from benchmarks.timing import Comparison, compare
from srpo_kernels import native, reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operation on one workload, ready to run both ways."""

    op: str
    workload: str
    twin: Callable[[], Tensor]
    fast: Callable[[], Tensor]


def cases() -> Iterator[Case]:
    generator = torch.Generator().manual_seed(0)
    # 16 and 128 prompts with 8 completions each: a step of the embedded run, and of a 7B run with a long tail
    for num_sequences, budget in ((128, 2_048), (1_024, 16_384)):
        lengths = torch.randn(num_sequences, generator=generator).exp() * budget / 12
        yield _case(
            "pack_sequences", f"S={num_sequences} budget={budget}", lengths.long().clamp(min=1, max=budget), budget
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="interleaved rounds a workload (default: %(default)s)")
    arguments = parser.parse_args()
    if not native.is_available():
        print(json.dumps({"skipped": "no native library: there is nothing to compare"}))
        return
    torch.set_num_threads(1)
    rows = []
    for case in cases():
        # no speed-up is reported for a wrong result
        assert torch.equal(case.fast(), case.twin()), f"{case.op} differs from its twin on {case.workload}"
        comparison = compare(case.twin, case.fast, rounds=arguments.rounds)
        print(_line(case, comparison), flush=True)
        rows.append({"op": case.op, "workload": case.workload, **asdict(comparison)})
    print(json.dumps({"rows": rows, **machine()}))


def _case(op: str, workload: str, *arguments: Tensor | int) -> Case:
    fast, twin = getattr(srpo_kernels, op), getattr(reference, op)
    return Case(op=op, workload=workload, twin=lambda: twin(*arguments), fast=lambda: fast(*arguments))


def _line(case: Case, comparison: Comparison) -> str:
    twin_us, native_us = comparison.baseline_s.p50 * 1e6, comparison.candidate_s.p50 * 1e6
    speedup = comparison.speedup
    return (
        f"{case.op:<16} {case.workload:<22} twin {twin_us:8.1f} us   native {native_us:8.1f} us   "
        f"{speedup.p50:6.1f} x [{speedup.p20:.1f}-{speedup.p80:.1f}]"
    )


if __name__ == "__main__":
    main()

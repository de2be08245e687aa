"""`srpo bench ops`: every operation against other ways of doing it. The last line of stdout is one JSON document."""

import argparse
import fnmatch
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict

import torch

from benchmarks.machine import machine, machine_kind
from benchmarks.ops.measure import Measured, Protocol, Row, Skipped, measure_head
from benchmarks.ops.results import keep
from benchmarks.ops.small import measure_small
from benchmarks.ops.workloads import HeadWorkload, cpu_bar, model_workloads, tiny
from benchmarks.options import LEAST_ROUNDS, at_least
from srpo_fast.user_error import CommandParser


def main() -> None:
    if os.environ.get("TORCHDYNAMO_DISABLE", "0") != "0":
        raise SystemExit("error: TORCHDYNAMO_DISABLE is set, so torch.compile would be measured as plain PyTorch")
    options = _options()
    torch.set_num_threads(1 if options.processor_time else options.threads)
    ceilings: dict[str, float] = {}
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for measured in _measure(options):
        ceilings |= measured.ceilings
        rows += measured.rows
        skipped += measured.skipped
        if not options.json:
            print("\n".join(_lines(measured)), flush=True)
    document = {
        "machine": machine() | _clock(options), "ceilings": ceilings, "rows": [asdict(row) for row in rows],
        "skipped": [asdict(variant) for variant in skipped],
    }  # fmt: skip
    if options.out:
        path = keep(document)
        if not options.json:
            print(path)
    print(json.dumps(document))


def _options() -> argparse.Namespace:
    parser = CommandParser(prog="srpo bench ops", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON document")
    parser.add_argument(
        "--workload", action="append", metavar="PATTERN", help="of the head: cpu_bar, tiny, 7b/tp1/N4096/r0.5/z0.3, "
        "7b/*; may be repeated (default: cpu_bar, on a GPU 7b/tp1/N16384/*)",
    )  # fmt: skip
    parser.add_argument("--op", action="append", choices=["head", "small"], help="only these (default: both)")
    parser.add_argument(
        "--rounds", type=at_least(LEAST_ROUNDS), default=21, help="interleaved rounds a workload (default: %(default)s)"
    )
    parser.add_argument("--threads", type=at_least(1), default=os.cpu_count(), help="of torch (default: %(default)s)")
    parser.add_argument(
        "--processor-time", action="store_true", help="of one thread, on a CPU: where others' load drowns wall time"
    )
    parser.add_argument("--out", action="store_true", help="keep the document in benchmarks/results/KIND/ops.json")
    return parser.parse_args()


def _clock(options: argparse.Namespace) -> dict[str, str]:
    """Figures by different clocks are not compared: those by processor time are a kind of machine of their own."""
    kind = machine_kind()
    return {"clock": "processor", "kind": f"{kind}-processor-time"} if options.processor_time else {"clock": "wall"}


def _measure(options: argparse.Namespace) -> Iterator[Measured]:
    device = "cuda" if torch.cuda.is_available() and not options.processor_time else "cpu"
    clock = time.process_time if options.processor_time else time.perf_counter
    ops = options.op or ["head", "small"]
    if "head" in ops:
        patterns = options.workload or (["7b/tp1/N16384/*"] if device == "cuda" else ["cpu_bar"])
        for workload in _chosen(patterns):
            yield measure_head(workload, Protocol(device=device, rounds=options.rounds, clock=clock))
    if "small" in ops:
        yield from measure_small(Protocol(rounds=options.rounds, clock=clock))


def _chosen(patterns: list[str]) -> list[HeadWorkload]:
    every = [cpu_bar(), tiny(), *model_workloads()]
    chosen = [w for w in every if any(fnmatch.fnmatch(w.name, pattern) for pattern in patterns)]
    if not chosen:
        raise SystemExit(f"error: no workload is called {' or '.join(patterns)}; see srpo bench ops --help")
    return chosen


def _lines(measured: Measured) -> Iterator[str]:
    for row in measured.rows:
        efficiency = "" if row.efficiency is None else f"{row.efficiency:7.1%} of the ceiling"
        faster = row.ours_is_faster
        ratio = "" if faster is None else f"ours {faster.p50:6.2f} x [{faster.p20:.2f}-{faster.p80:.2f}]"
        yield (
            f"{row.op:<16} {row.workload:<22} {row.variant:<18} {row.ms_p50:9.3f} ms "
            f"{row.extra_bytes / 2**20:8.1f} MiB {efficiency:>23}  {ratio}"
        )
    for variant in measured.skipped:
        yield f"{variant.op:<16} {variant.workload:<22} {variant.variant:<18} skipped: {variant.reason}"
    for name, rate in measured.ceilings.items():
        yield f"{'ceiling':<16} {name:<41} {rate / 1e9:9.1f} G/s"


if __name__ == "__main__":
    main()

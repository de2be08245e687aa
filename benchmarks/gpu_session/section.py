"""One section, or several, in this process: `python -m benchmarks.gpu_session.section NAME ... --out DIR`."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.gpu_session import attention, copies, correctness, heads, kernels, suite, update
from benchmarks.gpu_session.journal import Journal, Row
from benchmarks.gpu_session.scale import Scale, full, tiny
from benchmarks.machine import machine

SECTIONS: dict[str, Callable[[Scale], Iterator[Row]]] = {
    section.__name__: section
    for section in (
        kernels.ceilings, correctness.correctness, kernels.linear, kernels.row_kernels, kernels.accumulate,
        kernels.graphs, copies.sync, heads.head, heads.head_compiled, heads.head_of_65536_rows, heads.head_profile,
        attention.attention, update.update_3b, update.update_7b, suite.suite,
    )
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(SECTIONS))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        sys.exit("error: torch sees no CUDA device here; --tiny tries the session without one")
    if options.tiny and os.environ.get("TRITON_INTERPRET") != "1":
        sys.exit("error: --tiny runs the Triton kernels in their interpreter: set TRITON_INTERPRET=1")
    torch.manual_seed(0)
    scale = tiny() if options.tiny else full()
    for name in options.names:
        run(name, scale, Journal(options.out))


def run(name: str, scale: Scale, journal: Journal) -> None:
    journal.write(name, {"state": "begun", "machine": machine()})
    start = time.monotonic()
    for row in SECTIONS[name](scale):
        journal.write(name, row | {"at_s": round(time.monotonic() - start, 2)})
        print(name, " ".join(f"{key}={_said(value)}" for key, value in row.items()), flush=True)


def _said(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()

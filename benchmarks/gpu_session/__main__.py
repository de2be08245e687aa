"""Runs the plan, each section in a process of its own: `python -m benchmarks.gpu_session --out DIR`.

One that fails, hangs or takes the GPU down with it costs the others nothing. No section begins that would not fit into
--minutes; --skip-done goes on where an earlier call with the same DIR ended. All figures are in DIR/session.jsonl, what
sections say in DIR/session.log. `--tiny` tries every path on a CPU, with nothing to be learnt of speed.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.gpu_session.journal import Journal, Row
from benchmarks.gpu_session.plan import PLAN, Section, limit

LOG_NAME = "session.log"
Command = Callable[[Section], list[str]]


def main() -> int:
    names = [section.name for section in PLAN]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sections", nargs="+", choices=names, default=names, help="default: all, in order")
    parser.add_argument("--minutes", type=float, default=9.0, help="all of it ends by then (default: %(default)s)")
    parser.add_argument("--skip-done", action="store_true", help="leave out what DIR's journal has already")
    parser.add_argument("--tiny", action="store_true", help="on a CPU, in Triton's interpreter")
    options = parser.parse_args()
    if options.tiny:
        os.environ["TRITON_INTERPRET"] = "1"  # read where a section imports Triton
    elif not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --tiny tries the session without one")
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [section for section in PLAN if section.name in options.sections]
    run_plan(chosen, Journal(options.out), _command(options), 60 * options.minutes, skip_done=options.skip_done)
    states = Journal(options.out).states()
    print(json.dumps({name: state for name, state in states.items() if name in options.sections}))
    return 0 if all(states[section.name]["state"] == "done" for section in chosen) else 1


def _command(options: argparse.Namespace) -> Command:
    tiny = ["--tiny"] if options.tiny else []
    return lambda section: [
        sys.executable, "-m", "benchmarks.gpu_session.section", section.name, "--out", str(options.out), *tiny
    ]  # fmt: skip


def run_plan(
    sections: Sequence[Section], journal: Journal, command: Command, seconds: float, *, skip_done: bool
) -> None:
    """Every section has a last state in the journal afterwards."""
    end = time.monotonic() + seconds
    done = {name for name, row in journal.states().items() if row["state"] == "done"} if skip_done else set()
    for section in sections:
        left = end - time.monotonic()
        if section.name in done:
            continue
        if section.seconds > left:
            reason = f"takes about {section.seconds:.0f} s, and {left:.0f} s are left"
            state: Row = {"state": "skipped", "reason": reason}
        else:
            state = _run(section, journal, command(section), limit(section, left))
        journal.write(section.name, state)
        print(section.name, " ".join(str(value) for value in state.values()), flush=True)


def _run(section: Section, journal: Journal, command: list[str], seconds: float) -> Row:
    """How the section ended. What it printed is in the log, and here where it failed."""
    start = time.monotonic()
    log = journal.folder / LOG_NAME
    with log.open("ab") as file:
        begin = file.tell()
        child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = child.wait(seconds)
            reason = f"exit code {code}"
        except subprocess.TimeoutExpired:
            code, reason = -1, f"not done after {seconds:.0f} s"
        _end_all_of(child)
    said = log.read_bytes()[begin:].decode(errors="replace").rstrip()
    print(said[-2_000:], flush=True)
    took = round(time.monotonic() - start, 1)
    if code == 0:
        return {"state": "done", "seconds": took}
    return {"state": "failed", "seconds": took, "reason": f"{reason}: {said.splitlines()[-1] if said else 'no word'}"}


def _end_all_of(child: subprocess.Popen) -> None:
    """Of a section that hangs, or leaves compilers behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    sys.exit(main())

"""A short run of the embedded config by `srpo train`, which leaves nothing behind, however it ends."""

import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

STEPS = 8  # the first warms caches and does not count


def seconds_by_phase(ranks: int) -> dict[str, float]:
    """Medians over the steps of a short embedded run without stage 1."""
    Path("runs").mkdir(exist_ok=True)
    with (
        _ending_by_signal(),
        tempfile.TemporaryDirectory(dir="runs", prefix="bench_loop_") as folder,  # beside the base policy
    ):
        command = [
            str(Path(sys.executable).with_name("srpo")), "train", "--ranks", str(ranks), f"run.dir={folder}",
            f"steps={STEPS}", "reflection=null", "cold_start=null", "evaluation.questions=1", "evaluation.every=0",
            "reward.max_flat_steps=null",
        ]  # fmt: skip
        _run(command)
        lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    names = [name for name in lines[-1] if name.startswith("time/")]
    return {name: statistics.median(line.get(name, 0.0) for line in lines[1:]) for name in names}


def _run(command: list[str]) -> None:
    """Ends with the exit code of a command that failed. One that goes on when this ends is ended, and waited for."""
    # in a session of its own, Ctrl-C reaches it once, as the SIGTERM from here, which lets it end its ranks
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        code = process.wait()
    finally:
        process.terminate()
        process.wait()
    if code:
        sys.exit(code if code > 0 else 128 - code)  # it has said why


@contextmanager
def _ending_by_signal() -> Iterator[None]:
    """SIGTERM and SIGINT end what is inside as an exception does, which cleans up on its way."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

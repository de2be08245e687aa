"""The run that `srpo bench loop` starts leaves nothing behind when it is ended."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch import ROOT, hear_interrupts

# in the place of `srpo train`: writes into its run directory until it is told to end, and once more then
RUN = """
import pathlib, signal, sys, time
folder = pathlib.Path(next(word for word in sys.argv if word.startswith("run.dir=")).removeprefix("run.dir="))
def end(*_):
    time.sleep(0.3)
    (folder / "last").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
(folder / "begun").touch()
time.sleep(60)
"""
BENCH = "import sys; sys.executable = sys.argv[1]; from benchmarks.short_run import seconds_by_phase as s; s(1)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_removes_its_directory(number, tmp_path):
    command = tmp_path / "srpo"
    command.write_text(f"#!{sys.executable}\n{RUN}")
    command.chmod(0o755)
    bench = subprocess.Popen(
        [sys.executable, "-c", BENCH, str(tmp_path / "python")], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
        preexec_fn=hear_interrupts,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(Path(tmp_path).glob("runs/bench_loop_*/begun")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    bench.send_signal(number)
    assert bench.wait(60) == 128 + number
    assert list((tmp_path / "runs").iterdir()) == []

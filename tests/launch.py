"""Starts scripts as a user does, with torchrun or alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 240  # each takes 10 to 25 s on two idle cores
_OF_A_PROCESS_GROUP = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def run_script(script: str, *arguments: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """`script` (from the repository's root) run to its end, whatever that is."""
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", str(ranks)]
    return _run([*(torchrun if ranks > 1 else [sys.executable]), str(ROOT / script), *arguments])


def run_on_ranks(ranks: int, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same on so many ranks that share their imports."""
    return _run([sys.executable, str(ROOT / "tests/fork_ranks.py"), str(ranks), str(ROOT / script), *arguments])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_PROCESS_GROUP}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)


def hear_interrupts() -> None:
    """As preexec_fn of a process that Ctrl-C shall end: a suite started in the background would have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

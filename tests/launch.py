"""Starts scripts as a user does, with torchrun or alone, or as forks of a process that has imported what they need."""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 500  # each takes 10 to 25 s on two idle cores
# of a process group, and what would have ranks write their lines in pieces
_NOT_PASSED_ON = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "PYTHONUNBUFFERED")


def run_script(script: str, *arguments: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """`script` (from the repository's root) run to its end, whatever that is."""
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", str(ranks)]
    command = [*(torchrun if ranks > 1 else [sys.executable]), str(ROOT / script), *arguments]
    return subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=TIMEOUT_S)


def run_on_ranks(ranks: int, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same on so many ranks, which share their imports with each other and with earlier calls of this."""
    with TemporaryDirectory() as folder:
        said = {name: f"{folder}/{name}" for name in ("stdout", "stderr")}
        job = {"ranks": ranks, "script": str(ROOT / script), "arguments": arguments, "environment": _environment()}
        code = _Forks.run(job | said)
        texts = {name: Path(file).read_text() for name, file in said.items()}
    return subprocess.CompletedProcess([script, *arguments], code, **texts)


class _Forks:
    """The process that forks (fork_ranks.py): one for all tests of this process."""

    _process: subprocess.Popen[str] | None = None

    @classmethod
    def run(cls, job: Mapping[str, object]) -> int:
        process = cls._process = cls._process or cls._start()
        assert process.stdin
        assert process.stdout
        try:
            print(json.dumps(job), file=process.stdin, flush=True)
            if not select.select([process.stdout], [], [], TIMEOUT_S)[0]:
                raise subprocess.TimeoutExpired(str(job["script"]), TIMEOUT_S)
            code = process.stdout.readline()
        except BaseException:
            cls._end(process)
            raise
        if not code:  # the script cannot be imported
            cls._end(process)
        return int(code or 1)

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/fork_ranks.py")], cwd=ROOT, env=_environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        atexit.register(process.communicate)
        return process

    @classmethod
    def _end(cls, process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        cls._process = None


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    return environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def hear_interrupts() -> None:
    """As preexec_fn of a process that Ctrl-C shall end: a suite started in the background would have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

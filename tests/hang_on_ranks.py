"""Run on two ranks, a second without progress allowed: in a step rank 1 sleeps, or dies; the others wait for it.

Arguments: what rank 1 does, and a folder in which the ranks note that they have told of it.
"""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch.distributed as dist

from srpo_fast import deadline
from srpo_fast.config import ParallelConfig
from srpo_fast.deadline import doing, watch
from srpo_fast.parallel import lost_rank, start
from tests.waiting import PATIENCE_S, wait_until


def wait_forever() -> None:
    time.sleep(600)


def leave_together(folder: Path, rank: int) -> None:
    """The first to leave ends the others, which on a slow machine may take longer to tell than the time of grace."""

    def sleep(seconds: float) -> None:
        (folder / str(rank)).touch()
        wait_until(lambda: len(list(folder.iterdir())) == 2)

    deadline.time = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)  # type: ignore[assignment]


def main(fault: str, folder: Path) -> None:
    parallel = start(ParallelConfig())
    leave_together(folder, parallel.rank)
    try:
        with watch(1.0 if fault == "sleeps" else 2 * PATIENCE_S), doing("step 7"):
            if not parallel.is_main:
                wait_forever() if fault == "sleeps" else os._exit(9)
            dist.barrier()
    except RuntimeError as error:
        print(f"error: {lost_rank(error)}", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

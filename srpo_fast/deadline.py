"""A hang becomes an error: what takes longer than it may ends the process, after telling where every thread stands.

A rank that waits for another cannot be interrupted from within; all ranks that hang in the same place tell so at about
the same time, and torchrun ends whoever is left.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_S = 3.0  # for the other ranks to tell theirs: the first to leave ends them


@contextmanager
def deadline(seconds: float, what: str, rank: int) -> Iterator[None]:
    """Ends the process with exit code 1 if the block is not left within `seconds`."""

    def end() -> None:
        print(
            f"error: rank {rank}: {what} has taken {seconds / 60:g} minutes (run.max_step_minutes), and this rank is "
            "not done; its threads are below. The last checkpoint is intact; raise the limit if the step is this long",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        time.sleep(GRACE_S)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

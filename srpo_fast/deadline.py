"""A hang becomes an error: what takes longer than it may ends the process, after telling where every thread stands.

A rank that waits for another cannot be interrupted from within; all ranks that hang in the same place tell so at about
the same time, and torchrun ends whoever is left.
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

"""A hang becomes an error: a run that makes no progress for too long ends, after telling where every thread stands.

A rank that waits for another cannot be interrupted from within; all ranks that hang in the same place tell so at about
the same time, and torchrun ends whoever is left. One watch a process, because it is the process that it ends.
"""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_S = 3.0  # for the other ranks to tell theirs: the first to leave ends them


class _State:
    """What is under way, outermost first, and when it last advanced; paused while another rank is the one to watch."""

    under_way: list[str] = []  # noqa: RUF012 - of the process
    advanced_at = 0.0
    paused = 0


def progress() -> None:
    """Tells the watch that this rank advances."""
    _State.advanced_at = time.monotonic()


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Names what is under way. To begin and to end it is progress."""
    progress()
    _State.under_way.append(what)
    try:
        yield
        progress()
    finally:
        _State.under_way.pop()


@contextmanager
def left_to_another_rank() -> Iterator[None]:
    """While this rank waits for one that may work for hours; that one is watched, and its end is this rank's."""
    _State.paused += 1
    try:
        yield
    finally:
        progress()
        _State.paused -= 1


@contextmanager
def watch(seconds: float) -> Iterator[None]:
    """Ends the process with exit code 1 if the block makes no progress for `seconds`."""
    progress()
    left = threading.Event()
    watcher = threading.Thread(target=_look, args=(seconds, left), name="watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()


def _look(limit: float, left: threading.Event) -> None:
    while not left.wait(min(limit / 10, 10.0)):
        if _is_quiet_for(limit):
            _end(limit)


def _is_quiet_for(seconds: float) -> bool:
    return not _State.paused and time.monotonic() - _State.advanced_at > seconds


def _end(limit: float) -> None:
    what = ", ".join(dict.fromkeys(_State.under_way)) or "start-up"
    print(
        f"error: rank {os.environ.get('RANK', '0')}: {what}: no progress for {limit / 60:g} minutes "
        "(run.max_quiet_minutes); the threads of this rank are below. The last checkpoint is intact; raise the limit "
        "if this may take so long",
        file=sys.stderr,
        flush=True,
    )
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    time.sleep(GRACE_S)
    os._exit(1)

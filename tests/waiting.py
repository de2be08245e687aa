"""Waits that end with what is waited for, however slow the machine is."""

import time
from collections.abc import Callable

PATIENCE_S = 120.0  # what takes longer than this does not come at all


def wait_until(happened: Callable[[], bool]) -> bool:
    """Whether it happened in the end."""
    end = time.monotonic() + PATIENCE_S
    while not happened() and time.monotonic() < end:
        time.sleep(0.005)
    return happened()

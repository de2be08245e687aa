"""When the next request may go out, and how long to wait after one that failed."""

import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


class Pacer:
    """Hands out moments to send at, evenly spaced; for any number of threads."""

    def __init__(self, per_minute: int | None) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Seconds until the caller may send; the moment is then taken."""
        with self._lock:
            now = time.monotonic()
            moment = max(now, self._next)
            self._next = moment + self._interval
            return moment - now

    def hold(self, seconds: float) -> None:
        """Hands out no moment for that long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def pause(retry: int, first_s: float, limit_s: float) -> float:
    """Seconds before retry number `retry` (from 0): doubled every time, and spread so that many do not come at once."""
    return min(limit_s, first_s * 2.0 ** min(retry, 60)) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds for which the server asks to be left alone, in any of the forms in use; None: it does not say."""
    with suppress(ValueError, KeyError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    with suppress(ValueError, KeyError):
        return max(0.0, float(headers["retry-after"]))
    with suppress(ValueError, KeyError):
        date = parsedate_to_datetime(headers["retry-after"])
        return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    return None

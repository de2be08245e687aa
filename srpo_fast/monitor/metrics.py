"""metrics.jsonl, one line a step; the seconds of a step by phase; peak memory."""

import json
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import torch

from srpo_fast.deadline import doing
from srpo_fast.monitor.run_directory import read_jsonl, write_atomically

UNACCOUNTED = "unaccounted"
KIB, GIB = 2**10, 2**30


class MetricsWriter:
    """Appends one JSON line a step: {"step": 7, "train/loss": 0.01, ...}; what is not finite is written as null."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def drop_from(self, step: int) -> None:
        """Forgets the lines of `step` and later ones: what a resumed run is about to repeat."""
        kept = [line for line in read_jsonl(self._path) if line["step"] < step]
        write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        line = {"step": step} | {key: _json_number(value) for key, value in metrics.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")


def read_series(lines: list[dict[str, Any]], key: str) -> tuple[tuple[int, float], ...]:
    """(step, value) of every line that has a finite value for `key`."""
    return tuple((line["step"], line[key]) for line in lines if line.get(key) is not None)


def reward_ends(lines: list[dict[str, Any]], steps: int = 10) -> tuple[float | None, float | None]:
    """Mean reward over the first and over the last `steps` lines; None without any."""
    rewards = [value for _, value in read_series(lines, "rollout/reward_mean")]
    if not rewards:
        return None, None
    return fmean(rewards[:steps]), fmean(rewards[-steps:])


class PhaseTimer:
    """Wall seconds by name: `with timer("rollout"): ...`.

    Every second has one owner: a span inside another is taken out of the outer one, and what no span covers is
    `unaccounted`. Nothing is synchronized here: a span that launches device work must end by waiting for it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._open: list[str] = []
        self._seconds: dict[str, float] = {}
        self._since = clock()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._charge()
        self._open.append(name)
        try:
            with doing(name):
                yield
        finally:
            self._charge()
            self._open.pop()

    def seconds(self) -> dict[str, float]:
        """Seconds by name since the last lap, the span that is still open included."""
        self._charge()
        return dict(self._seconds)

    def lap(self) -> dict[str, float]:
        """The step's `time/<name>_s` with `time/unaccounted_s` and their sum `time/step_s`; starts the next step."""
        seconds = self.seconds()
        self._seconds = {}
        seconds[UNACCOUNTED] = seconds.pop(UNACCOUNTED, 0.0)
        seconds["step"] = sum(seconds.values())
        return {f"time/{name}_s": value for name, value in seconds.items()}

    def _charge(self) -> None:
        now = self._clock()
        owner = self._open[-1] if self._open else UNACCOUNTED
        self._seconds[owner] = self._seconds.get(owner, 0.0) + now - self._since
        self._since = now


def peak_memory_gib() -> float:
    """The most memory this process has held, in GiB: allocated on its CUDA device, or resident if it uses none."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB  # Linux counts in KiB
    return (torch.cuda.max_memory_allocated() or resident) / GIB


def host_memory_gib() -> float:
    """What this process holds of the host's memory now, in GiB, the pages it shares included."""
    return psutil.Process().memory_info().rss / GIB


def _json_number(value: float) -> float | None:
    """`value` as JSON can hold it; a NumPy or torch scalar becomes a Python one."""
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None

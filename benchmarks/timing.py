"""The measuring protocol, once: two ways of doing the same thing, timed in turns in one process.

Wall time on a shared machine drifts by a factor of several within minutes, and both candidates of a round see the same
machine; so the ratio of a round is trusted, not the times. Each candidate is repeated until a timing is long against
the clock, the order alternates from round to round, and medians with the middle 60 % of rounds are reported.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Quantiles over the rounds of a comparison."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        cuts = statistics.quantiles(values, n=5, method="inclusive")
        return cls(p20=cuts[0], p50=statistics.median(values), p80=cuts[3])


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Seconds a call of either, and how many times faster the candidate was than the baseline within a round."""

    baseline_s: Spread
    candidate_s: Spread
    speedup: Spread


def compare(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    *,
    rounds: int = 31,
    min_timing_s: float = 0.005,
) -> Comparison:
    """Time both in turns, `rounds` times, after one round that warms caches and finds the repetitions needed."""
    repeats = {run: _repeats_for(run, min_timing_s) for run in (baseline, candidate)}
    seconds: dict[Callable[[], object], list[float]] = {baseline: [], candidate: []}
    for first, second in itertools.islice(itertools.cycle([(baseline, candidate), (candidate, baseline)]), rounds):
        for run in (first, second):
            seconds[run].append(_time(run, repeats[run]) / repeats[run])
    ratios = [b / c for b, c in zip(seconds[baseline], seconds[candidate], strict=True)]
    return Comparison(
        baseline_s=Spread.of(seconds[baseline]), candidate_s=Spread.of(seconds[candidate]), speedup=Spread.of(ratios)
    )


def _repeats_for(run: Callable[[], object], min_timing_s: float) -> int:
    repeats = 1
    while _time(run, repeats) < min_timing_s:
        repeats *= 2
    return repeats


def _time(run: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return time.perf_counter() - start

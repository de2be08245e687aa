"""The measuring protocol, once: ways of doing the same thing, timed in turns in one process.

Wall time on a shared machine drifts by a factor of several within minutes, and all candidates of a round see the same
machine; so the ratio of a round is trusted, not the times. Each candidate is repeated until a timing is long against
the clock, the order moves on from round to round, and medians with the middle 60 % of rounds are reported.
"""

import statistics
import time
from collections.abc import Callable, Mapping
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
    seconds = time_in_turns(
        {"baseline": baseline, "candidate": candidate}, rounds=rounds, min_timing_s=min_timing_s,
        clock=time.perf_counter, settle=lambda: None,
    )  # fmt: skip
    return Comparison(
        baseline_s=Spread.of(seconds["baseline"]), candidate_s=Spread.of(seconds["candidate"]),
        speedup=speedup(seconds["baseline"], seconds["candidate"]),
    )  # fmt: skip


def time_in_turns(
    runs: Mapping[str, Callable[[], object]], *, rounds: int, min_timing_s: float, clock: Callable[[], float],
    settle: Callable[[], None],
) -> dict[str, list[float]]:  # fmt: skip
    """Seconds a call of each, one entry a round; in every round another one comes first.

    clock: time.perf_counter, or for one thread on a machine under load time.process_time.
    settle: waits until the work that a call has started is done, such as torch.cuda.synchronize.
    """
    repeats = {name: _repeats_for(run, min_timing_s, clock, settle) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for round_ in range(rounds):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(_time(runs[name], repeats[name], clock, settle) / repeats[name])
    return seconds


def speedup(baseline_s: list[float], candidate_s: list[float]) -> Spread:
    """How many times faster the candidate was, round by round."""
    return Spread.of([b / c for b, c in zip(baseline_s, candidate_s, strict=True)])


def _repeats_for(
    run: Callable[[], object], min_timing_s: float, clock: Callable[[], float], settle: Callable[[], None]
) -> int:
    repeats = 1
    while _time(run, repeats, clock, settle) < min_timing_s:
        repeats *= 2
    return repeats


def _time(run: Callable[[], object], repeats: int, clock: Callable[[], float], settle: Callable[[], None]) -> float:
    settle()
    start = clock()
    for _ in range(repeats):
        run()
    settle()
    return clock() - start

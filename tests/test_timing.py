from types import SimpleNamespace

import pytest

from benchmarks import timing
from benchmarks.timing import Spread, compare


class Machine:
    """A clock that work advances, on a machine that gets 10 % slower with every reading."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slowness = 1.0
        self.calls = {"slow": 0, "fast": 0}

    def perf_counter(self) -> float:
        self.slowness *= 1.1
        return self.now_s

    def work(self, name: str, seconds: float) -> None:
        self.calls[name] += 1
        self.now_s += seconds * self.slowness


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=machine.perf_counter))
    return machine


def test_the_speedup_survives_a_machine_that_slows_down(machine):
    comparison = compare(
        lambda: machine.work("slow", 0.02), lambda: machine.work("fast", 0.005), rounds=8, min_timing_s=0.001
    )
    # every other round starts with the other one, so the drift of 1.21 within a round cancels
    assert comparison.speedup.p50 == pytest.approx(4.0, rel=0.02)
    assert comparison.baseline_s.p80 > 2 * comparison.baseline_s.p20


def test_short_calls_are_repeated_until_the_clock_can_see_them(machine):
    compare(lambda: machine.work("slow", 1e-3), lambda: machine.work("fast", 1e-6), rounds=2, min_timing_s=0.001)
    assert machine.calls["fast"] > 100 * machine.calls["slow"]


def test_spread_is_the_middle_of_the_rounds():
    assert Spread.of([5.0, 1.0, 3.0, 2.0, 4.0, 0.0]) == Spread(p20=1.0, p50=2.5, p80=4.0)

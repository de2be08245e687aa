"""metrics.jsonl never repeats a step; a timer gives every second one owner."""

import contextlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from srpo_fast.monitor.metrics import (
    MetricsWriter,
    PhaseTimer,
    host_memory_gib,
    peak_memory_gib,
    read_series,
    reward_ends,
)
from srpo_fast.monitor.run_directory import read_jsonl


def test_a_step_is_one_line_of_json(tmp_path):
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.write(0, {"train/loss": 0.5, "rollout/groups": 3})
    writer.write(1, {"train/loss": 0.25})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 0, "train/loss": 0.5, "rollout/groups": 3}\n{"step": 1, "train/loss": 0.25}\n'


def test_what_is_not_finite_is_null(tmp_path):
    values = {"a": math.nan, "b": math.inf, "c": np.float32("-inf"), "d": np.float32(0.5), "e": torch.tensor(2.0)}
    MetricsWriter(tmp_path / "m.jsonl").write(0, values)
    line = json.loads((tmp_path / "m.jsonl").read_text(), parse_constant=pytest.fail)
    assert line == {"step": 0, "a": None, "b": None, "c": None, "d": 0.5, "e": 2.0}


def test_a_resumed_run_repeats_no_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    for step in range(5):
        writer.write(step, {"x": step})
    path.write_text(path.read_text() + '{"step": 5, "x":')  # the crash
    resumed = MetricsWriter(path)
    resumed.drop_from(3)
    resumed.write(3, {"x": 30})
    assert [(line["step"], line["x"]) for line in read_jsonl(path)] == [(0, 0), (1, 1), (2, 2), (3, 30)]


def test_dropping_from_a_run_without_metrics_leaves_none(tmp_path):
    MetricsWriter(tmp_path / "m.jsonl").drop_from(0)
    assert read_jsonl(tmp_path / "m.jsonl") == []


def test_a_series_skips_null_and_missing_values():
    lines = [{"step": 0, "x": 1.0}, {"step": 1, "x": None}, {"step": 2}, {"step": 3, "x": 0.0}]
    assert read_series(lines, "x") == ((0, 1.0), (3, 0.0))


def test_reward_ends_are_means_over_ten_steps():
    lines = [{"step": step, "rollout/reward_mean": float(step)} for step in range(30)]
    assert reward_ends(lines) == (4.5, 24.5)
    assert reward_ends([]) == (None, None)


def test_a_step_is_split_into_its_parts_and_the_rest():
    now = [100.0]
    timer = PhaseTimer(lambda: now[0])
    with timer("rollout"):
        now[0] += 3.0
    now[0] += 0.25
    with timer("update"):
        now[0] += 2.0
    with timer("rollout"):
        now[0] += 1.0
    expected = {"rollout": 4.0, "update": 2.0, "unaccounted": 0.25, "step": 6.25}
    assert timer.lap() == {f"time/{name}_s": seconds for name, seconds in expected.items()}


def test_a_lap_starts_the_next_step_from_zero():
    now = [100.0]
    timer = PhaseTimer(lambda: now[0])
    with timer("rollout"):
        now[0] += 3.0
    timer.lap()
    now[0] += 0.5
    assert timer.lap() == {"time/unaccounted_s": 0.5, "time/step_s": 0.5}


def test_a_span_inside_another_is_taken_out_of_it():
    now = [100.0]
    timer = PhaseTimer(lambda: now[0])
    with timer("srpo"):
        now[0] += 5.0
        with timer("evaluation"):
            now[0] += 2.0
        now[0] += 1.0
        assert timer.seconds()["srpo"] == 6.0  # counted while it is open
    assert timer.seconds() == {"unaccounted": 0.0, "srpo": 6.0, "evaluation": 2.0}


def test_a_span_that_fails_is_closed():
    now = [100.0]
    timer = PhaseTimer(lambda: now[0])
    with contextlib.suppress(RuntimeError), timer("rollout"):
        now[0] += 1.0
        raise RuntimeError
    now[0] += 2.0
    assert timer.seconds() == {"unaccounted": 2.0, "rollout": 1.0}


def test_host_memory_falls_when_it_is_given_back():
    before = host_memory_gib()
    block = np.ones(2**28, dtype=np.uint8)
    assert host_memory_gib() - before > 0.2
    del block
    assert host_memory_gib() - before < 0.1


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="then it is the device's memory")
def test_peak_memory_is_at_least_what_is_resident_now():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident_gib = pages * os.sysconf("SC_PAGE_SIZE") / 2**30
    assert resident_gib * 0.98 <= peak_memory_gib() < resident_gib + 64

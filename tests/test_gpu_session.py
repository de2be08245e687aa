"""The session for a GPU, tried without one: that every section runs, and that none can spoil the others."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_session.__main__ import run_plan
from benchmarks.gpu_session.journal import Journal
from benchmarks.gpu_session.plan import PLAN, Section, limit
from benchmarks.gpu_session.scale import full

ROOT = Path(__file__).parents[1]


def test_every_section_of_the_plan_runs_on_a_cpu(tmp_path):
    pytest.importorskip("triton")
    # left out: on a CPU the same as head, and a second process group
    names = [section.name for section in PLAN if section.name not in ("head_compiled", "update_7b")]
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_session.section", *names, "--out", tmp_path, "--tiny"], cwd=ROOT,
        capture_output=True, text=True, env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    rows = {name: [row for row in Journal(tmp_path).rows() if row["section"] == name][1:] for name in names}
    assert all(row["error"] < (5e-3 if "bfloat16" in row["op"] else 1e-5) for row in rows["correctness"])
    assert {row["op"] for row in rows["correctness"]} > {"linear_statistics", "row_statistics", "add_product", "mrope"}
    assert rows["linear"][0]["of_gemm"] > 0
    assert {row["variant"] for row in rows["head"] if "ms_p50" in row} >= {"ours", "torch", "torch_full_logits"}
    assert rows["head_of_65536_rows"][0]["variant"] == "ours"
    assert rows["sync"][0]["right"] == {"one_launch": True, "foreach": True, "copy_each": True}
    assert all(max(row["errors"].values()) < 1e-5 for row in rows["attention"][:2])
    assert [row["tokens"] for row in rows["update_3b"] if "tokens" in row] == [52]
    assert {row["part"] for row in rows["update_3b"] if "part" in row} == {"vision", "passes", "optimizer"}
    assert rows["head_profile"][-1]["kernel"] == "all"
    assert rows["suite"] == [rows["suite"][0]]
    assert rows["suite"][0]["tests"] > 0


def plan_of(*names: str, seconds: float = 1.0) -> list[Section]:
    return [Section(name=name, seconds=seconds) for name in names]


def test_a_section_that_fails_or_hangs_costs_the_others_nothing(tmp_path, monkeypatch, capsys):
    limits = {"bad": 600, "hangs": 1, "good": 600}
    monkeypatch.setattr("benchmarks.gpu_session.__main__.limit", lambda section, left: limits[section.name])
    scripts = {"bad": "echo out of luck; exit 3", "hangs": "sleep 600 & sleep 600", "good": "echo fine"}
    start = time.monotonic()
    run_plan(plan_of(*scripts), Journal(tmp_path), lambda s: ["sh", "-c", scripts[s.name]], 600, skip_done=False)
    assert time.monotonic() - start < 300
    states = Journal(tmp_path).states()
    assert {name: state["state"] for name, state in states.items()} == {
        "bad": "failed", "hangs": "failed", "good": "done"
    }  # fmt: skip
    assert states["bad"]["reason"] == "exit code 3: out of luck"
    assert states["hangs"]["reason"] == "not done after 1 s: no word"
    assert (tmp_path / "session.log").read_text() == "out of luck\nfine\n"
    assert "fine" in capsys.readouterr().out


def test_what_would_not_fit_is_left_out_and_can_be_made_up_for(tmp_path):
    journal = Journal(tmp_path)
    long, short = Section(name="long", seconds=100), Section(name="short", seconds=1)
    run_plan([long, short], journal, lambda s: ["true"], 60, skip_done=False)
    assert {name: state["state"] for name, state in journal.states().items()} == {"long": "skipped", "short": "done"}
    assert journal.states()["long"]["reason"] == "takes about 100 s, and 60 s are left"
    journal.path.write_text(journal.path.read_text() + '\n{"section": "sho')  # of a process that was ended
    run_plan([long, short], journal, lambda s: ["true"], 1_000, skip_done=True)
    assert [row["section"] for row in journal.rows() if row.get("state") == "done"] == ["short", "long"]


def test_a_section_may_take_longer_than_reckoned_but_not_all_that_is_left():
    section = Section(name="any", seconds=50)
    assert limit(section, left=500) == 130
    assert limit(section, left=60) == 60


def test_the_full_session_is_of_the_sizes_that_are_promised():
    scale = full()
    assert (scale.long_head.tokens, scale.long_head.response_share) == (65_536, 1.0)
    assert {workload.dtype for workload in (*scale.heads, scale.long_head)} == {torch.bfloat16}
    assert all((ROOT / test).is_file() for test in scale.suite if test.endswith(".py"))
    assert sum(section.seconds for section in PLAN[:9]) < 9 * 60  # up to the longest head in one call


def test_without_a_gpu_it_says_so_in_a_line(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_session", "--out", tmp_path], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(
        "torch sees no CUDA device here; --tiny tries the session without one"
    )

"""A fault of one rank inside a real run: all ranks end, one says why, the run goes on from its last checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from srpo_fast.monitor.run_directory import read_jsonl
from tests.launch import run_script

# a run that hangs ends itself before run_script gives it up
TINY_JOB = (
    "steps=2", "save_every=1", "data.prompts_per_step=2", "rollout.group_size=2", "rollout.max_tokens=4",
    "rollout.max_num_seqs=4", "rollout.kv_cache_gib=0.0625", "evaluation={}", "data.heldout=null",
    "data.validation=null", "reflection=null", "cold_start=null", "run.max_quiet_minutes=3",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Three on one directory, the faulty ones first: what they said, and what each left behind."""

    dir: Path
    said: dict[str, CompletedProcess[str]]
    left: dict[str, list[str]]
    metrics: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def runs(untrained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(dir=tmp_path_factory.mktemp("faults") / "run", said={}, left={}, metrics={})
    job = (f"model.path={untrained_model}", f"run.dir={runs.dir}", *TINY_JOB)
    for name, script in {
        "killed": ("tests/faulty_run.py", "killed"),
        "raises": ("tests/faulty_run.py", "raises"),
        "good": ("srpo_fast/train.py",),
    }.items():
        runs.said[name] = run_script(*script, *job, ranks=1 if name == "good" else 2)  # without the rank that is lost
        runs.left[name] = sorted(path.name for path in (runs.dir / "checkpoints").iterdir())
        runs.metrics[name] = read_jsonl(runs.dir / "metrics.jsonl")
    return runs


@pytest.mark.parametrize("fault", ["killed", "raises"])
def test_the_ranks_that_are_left_end_with_one_line_and_keep_the_checkpoint(runs, fault):
    result = runs.said[fault]
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    # torchrun may be quicker than the news of the lost connection
    assert len(errors) <= 1
    assert all("another rank has ended" in line and "checkpoint is intact" in line for line in errors)
    assert errors or "closing signal SIGTERM" in result.stderr
    assert "[rank0]:" not in result.stderr  # a traceback's lines begin with it
    assert runs.left[fault] == ["step_000000", "step_000001"]


def test_a_rank_that_fails_says_why_and_one_that_is_killed_cannot(runs):
    said = runs.said["raises"].stderr
    assert said.count("[rank1]: Traceback") == 1
    assert "[rank1]: RuntimeError: the engine is broken" in said
    assert "in sample_groups" in said  # inside the step, not in the checks before it
    assert "[rank1]:" not in runs.said["killed"].stderr


def test_the_run_goes_on_from_the_last_checkpoint_to_its_end(runs):
    result = runs.said["good"]
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    first, second = runs.metrics["good"]
    assert [first] == runs.metrics["killed"] == runs.metrics["raises"]  # its times too: no step was repeated
    assert second["step"] == 1
    assert runs.left["good"] == ["step_000001", "step_000002"]
    assert (runs.dir / "hf" / "model.safetensors").is_file()

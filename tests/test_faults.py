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
    "data.validation=null", "reflection=null", "cold_start=null", "run.max_quiet_minutes=6",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Two on one directory: what they said, and what each left behind."""

    dir: Path
    said: dict[str, CompletedProcess[str]]
    left: dict[str, list[str]]
    metrics: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def runs(untrained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    runs = Runs(dir=tmp_path_factory.mktemp("faults") / "run", said={}, left={}, metrics={})
    job = (f"model.path={untrained_model}", f"run.dir={runs.dir}", *TINY_JOB)
    for name in ("killed", "raises"):
        runs.said[name] = run_script("tests/faulty_run.py", name, *job, ranks=2)
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


def test_the_run_goes_on_from_the_last_checkpoint(runs):
    assert "resumed: step 1 is next" in runs.said["raises"].stdout + runs.said["raises"].stderr
    assert "resumed" not in runs.said["killed"].stdout + runs.said["killed"].stderr
    assert len(runs.metrics["killed"]) == 1
    assert runs.metrics["raises"] == runs.metrics["killed"]  # its times too: no step was repeated

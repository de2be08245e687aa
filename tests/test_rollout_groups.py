"""Two engines share prompts: how they do it changes no completion, and rewards are computed while they sample."""

import json
from typing import Any

import pytest

from tests.launch import run_on_ranks

SLOW = """
import time

def slow(completion, answer):
    time.sleep(0.04)
    return float(len(completion))
"""


@pytest.fixture(scope="module")
def found(untrained_model, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every rank saw."""
    file = tmp_path_factory.mktemp("reward") / "slow.py"
    file.write_text(SLOW)
    result = run_on_ranks(2, "tests/sharing_on_ranks.py", str(untrained_model), f"{file}:slow")
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_completions_and_scores_do_not_depend_on_who_samples_them(found):
    one, other = found
    for way in ("dealt", "balanced", "lopsided", "on_demand"):
        assert one[way] == other[way]  # every rank holds the same
        for what in ("tokens", "scores"):
            assert one[way][what] == one["dealt"][what], (way, what)
        # a token's log-prob knows the shape of the batch it was computed in, by its rounding
        assert flat(one[way]["logprobs"]) == pytest.approx(flat(one["dealt"]["logprobs"]), abs=1e-5)


def flat(groups: list[list[list[float]]]) -> list[float]:
    return [value for group in groups for completion in group for value in completion]


def test_engines_get_equal_work_by_what_is_expected_of_the_prompts(found):
    engines = {way: found[0][way]["engines"] for way in ("dealt", "balanced", "lopsided")}
    assert engines["dealt"] == [0, 1] * 8
    assert engines["balanced"][::2].count(0) == engines["balanced"][1::2].count(0) == 4
    assert engines["lopsided"] == [0] + [1] * 15


def test_engines_that_take_on_demand_may_end_a_step_early_too(found):
    one, other = (rank["is_whole"] for rank in found)
    assert one == other
    assert 2 <= sum(one) < 16  # each engine ends one at least, and all are begun before any is left


def test_ranks_that_ask_for_different_things_are_told_before_they_do(found):
    for rank in found:
        assert rank["refused"] == "ranks disagree on what the engines are asked: ranks 1 differ from rank 0"


def test_groups_are_scored_while_their_engine_samples_others(found):
    """The engine has 8 places for the 32 completions of a rank, so groups end one by one."""
    assert all(rank["scored_while_sampling"] > 0 for rank in found)

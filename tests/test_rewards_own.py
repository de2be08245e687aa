"""A reward function of the user's own, where it runs: in workers, which it may hang, crash and fill with noise."""

from collections.abc import Callable
from pathlib import Path

import pytest

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig, UserError
from srpo_fast.grading import Gold
from srpo_fast.grading.grader import Grader
from srpo_fast.rewards.scoring import Sample, make_scorer
from tests.reward_case import RIGHT, WRONG, count_words

Score_all = Callable[[str, list[str]], list[Score]]


@pytest.fixture
def score_all(tmp_path: Path) -> Score_all:
    """Scores the texts, whose gold is 2, by a function with this body."""

    def score(body: str, texts: list[str]) -> list[Score]:
        path = tmp_path / "mine.py"
        path.write_text(
            f"import ctypes, os, sys, time\nimport numpy as np\n\ndef pays(completion, answer):\n    {body}\n"
        )
        settings = RewardConfig(variant=f"{path}:pays", workers=1, time_limit=1.0)
        scorer = make_scorer(settings, count_words, Grader(settings))
        return scorer([Sample(text=text, gold=Gold(text="2")) for text in texts])

    return score


def test_a_number_is_the_total_and_the_grammar_says_which_answers_are_right(score_all):
    one, two = score_all("return len(completion) + float(answer)", [RIGHT, RIGHT + WRONG])
    assert one.total == one.accuracy == len(RIGHT) + 2
    assert (one.first_correct, one.second_correct, one.reasons, one.failure) == (True, True, (), None)
    assert (two.first_correct, two.second_correct) == (True, False)


def test_a_dict_gives_parts_verdicts_and_reasons(score_all):
    body = "return {'format': 0.5, 'length': np.float64(0.25), 'total': 0.75, 'second_correct': True, 'reasons': ['x']}"
    (scored,) = score_all(body, ["no tags at all"])
    assert (scored.total, scored.format, scored.length, scored.accuracy) == (0.75, 0.5, 0.25, 0.0)
    assert (scored.first_correct, scored.second_correct, scored.reasons) == (False, True, ("x",))


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        ("return 1 / (completion != 'bad')", "reward_function_error", "ZeroDivisionError: division by zero (line 5 of"),
        ("return 1 if completion != 'bad' else time.sleep(60)", "reward_function_timeout", "not done after 1 s"),
        ("return 1 if completion != 'bad' else os._exit(3)", "reward_function_crash", "it exited with code 3"),
        ("return 1 if completion != 'bad' else ctypes.string_at(0)", "reward_function_crash", "SIGSEGV"),
    ],
)
def test_a_call_that_fails_costs_its_completion_the_reward_and_no_other(score_all, body, reason, says):
    good, bad, *others = score_all(body, ["good", "bad", *["good"] * 20])
    assert {good.total} == {score.total for score in others} == {1.0}
    assert {good.failure} == {score.failure for score in others} == {None}
    assert (bad.total, bad.first_correct, bad.second_correct, bad.reasons) == (0.0, False, False, (reason,))
    assert says in (bad.failure or "")


def test_prints_of_the_function_stay_off_stdout(score_all, capfd):
    assert score_all("print('noise'); os.write(1, b'noise'); return 1", ["x"])[0].total == 1.0
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "noise" in printed.err


def test_a_result_that_is_no_reward_is_an_error_at_once(score_all):
    with pytest.raises(UserError, match="finite numbers, got None"):
        score_all("return None if completion == 'bad' else time.sleep(0.3) or 1", ["good", "bad", "good"])


def test_what_keeps_the_file_from_loading_is_said_before_anything_is_scored(tmp_path):
    path = tmp_path / "mine.py"
    for content, says in [
        ("import no_such_package\ndef pays(completion, answer): ...", "No module named 'no_such_package'"),
        ("import os; os._exit(3)", "exited with code 3"),
    ]:
        path.write_text(content)
        settings = RewardConfig(variant=f"{path}:pays", workers=1)
        with pytest.raises(UserError) as refused:
            make_scorer(settings, count_words, Grader(settings))
        assert says in str(refused.value)
        assert "\n" not in str(refused.value)


def test_the_function_decides_which_answers_it_grades_itself(score_all):
    # the gold 2 and an answer that only symbolic comparison could read: nothing is left to compare
    body = "return {'total': 1, 'first_correct': True, 'second_correct': False}"
    (scored,) = score_all(body, [r"<answer>\frac{x+y}{z}</answer>"])
    assert (scored.first_correct, scored.second_correct) == (True, False)

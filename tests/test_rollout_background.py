"""Scores come from a thread beside the engine's: all of them, each in its place, and errors too."""

import threading

import pytest

from srpo_fast.config import UserError
from srpo_fast.rollout.background import BackgroundScoring
from tests.prompt_case import bare_prompt
from tests.test_rollout_sharing import make_completions
from tests.waiting import wait_until


def named(groups):
    """Instead of scores, whose they are."""
    return [(prompt.question.id,) * len(completions) for prompt, completions in groups]


def test_every_group_gets_its_own_scores_in_whatever_order_it_comes():
    with BackgroundScoring(named) as scoring:
        for number in (3, 0, 2, 1):
            scoring.add(number, bare_prompt(str(number)), make_completions(1, 1))
        assert scoring.scores() == {n: (str(n), str(n)) for n in range(4)}


def test_what_comes_while_a_call_is_under_way_is_scored_together():
    first_is_on, go_on, calls = threading.Event(), threading.Event(), []

    def score(groups):
        calls.append(len(groups))
        first_is_on.set()
        go_on.wait(120)
        return named(groups)

    with BackgroundScoring(score) as scoring:
        scoring.add(0, bare_prompt("0"), make_completions(1))
        assert first_is_on.wait(120)
        for number in (1, 2, 3):
            scoring.add(number, bare_prompt(str(number)), make_completions(1))
        go_on.set()
        assert sorted(scoring.scores()) == [0, 1, 2, 3]
    assert calls == [1, 3]


def test_adding_does_not_wait_for_the_scorer():
    release = threading.Event()
    with BackgroundScoring(lambda groups: release.wait(120) and named(groups)) as scoring:
        scoring.add(0, bare_prompt("0"), make_completions(1))
        assert not release.is_set()
        release.set()
        assert scoring.scores() == {0: ("0",)}


def test_what_the_scorer_raises_is_raised_where_the_scores_are_asked_for():
    def refuse(groups):
        raise UserError("no such reward")

    with BackgroundScoring(refuse) as scoring:
        scoring.add(0, bare_prompt("0"), make_completions(1))
        with pytest.raises(UserError, match="no such reward"):
            scoring.scores()


def test_an_engine_that_fails_does_not_wait_for_groups_that_were_not_begun():
    is_on, calls = threading.Event(), []

    def until_the_next_is_dropped(groups):
        calls.append(len(groups))
        is_on.set()
        wait_until(lambda: len(scoring._calls) == 2 and scoring._calls[1].cancelled())
        return named(groups)

    scoring = BackgroundScoring(until_the_next_is_dropped)

    def fail():
        with scoring:
            scoring.add(0, bare_prompt("0"), make_completions(1))
            assert is_on.wait(120)
            scoring.add(1, bare_prompt("1"), make_completions(1))
            raise RuntimeError("engine")

    with pytest.raises(RuntimeError, match="engine"):
        fail()
    assert calls == [1]
    assert not any(thread.name.startswith("scoring") for thread in threading.enumerate())

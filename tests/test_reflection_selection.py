"""Which answers are reflected on: the mix, the stand-ins, and that chance and kills change neither."""

import random

import pytest

from srpo_fast.reflection.selection import Queue, keep, mix, open_queues


@pytest.mark.parametrize(
    ("right", "wrong", "share", "wanted", "expected"),
    [
        (30, 70, 0.3, 1000, (30, 70)),
        (50, 70, 0.3, 1000, (30, 70)),  # wrong ones are scarce
        (10, 90, 0.3, 1000, (10, 23)),  # right ones are scarce
        (10, 90, 0.0, 1000, (0, 90)),
        (10, 90, 1.0, 1000, (10, 0)),
        (0, 5, 0.5, 1000, (0, 0)),
        (30, 70, 0.3, 10, (3, 7)),
        (300, 700, 0.3, 11, (3, 8)),
    ],
)
def test_the_mix_has_the_wanted_share_and_size_or_is_as_large_as_it_can_be(right, wrong, share, wanted, expected):
    assert mix(right, wrong, share, wanted) == expected


def test_asked_are_as_many_as_are_wanted_and_a_stand_in_for_every_failure():
    queue = Queue(list("abcdefg"), 3)
    assert queue.pending({}) == ["a", "b", "c"]
    assert queue.pending({"b": None}) == ["a", "c", "d"]
    assert queue.pending({"a": 1, "b": None, "c": 1}) == ["d"]
    assert queue.pending({"a": 1, "b": None, "c": 1, "d": 1}) == []
    assert queue.successes({"a": 1, "b": None, "c": 1, "d": 1, "e": 1}) == ["a", "c", "d"]


def test_a_queue_that_runs_out_gives_what_it_has():
    queue = Queue(["a", "b"], 2)
    assert queue.pending({"a": None, "b": 1}) == []
    assert queue.successes({"a": None, "b": 1}) == ["b"]


def test_the_order_of_candidates_is_the_seeds():
    is_right = {str(i): i % 2 == 0 for i in range(40)}
    assert open_queues(is_right, 0.5, 20, seed=1) == open_queues(is_right, 0.5, 20, seed=1)
    assert open_queues(is_right, 0.5, 20, seed=1) != open_queues(is_right, 0.5, 20, seed=2)
    right, wrong = open_queues(is_right, 0.5, 20, seed=1)
    assert all(is_right[each] for each in right.ids)
    assert not any(is_right[each] for each in wrong.ids)
    assert list(right.ids) != sorted(right.ids, key=int)
    (all_of_them,) = open_queues(is_right, None, 20, seed=1)
    assert len(all_of_them.ids) == 40
    assert all_of_them.wanted == 20


def outcomes_of(is_right: dict[str, bool], fails: set[str], chance: random.Random) -> dict[str, object]:
    """All that is asked when results come in any order and the process dies again and again."""
    queues = open_queues(is_right, 0.3, 20, seed=5)
    outcomes: dict[str, object] = {}
    while pending := [each for queue in queues for each in queue.pending(outcomes)]:
        chance.shuffle(pending)
        before_the_kill = pending[: chance.randint(1, len(pending))]
        assert not outcomes.keys() & set(before_the_kill)
        outcomes |= {each: None if each in fails else 1 for each in before_the_kill}
    return outcomes


@pytest.mark.parametrize("failing", [0.0, 0.3, 0.9])
def test_whatever_order_results_come_in_the_same_are_asked_and_the_same_kept(failing):
    chance = random.Random(0)
    is_right = {str(i): chance.random() < 0.4 for i in range(100)}
    fails = {each for each in is_right if chance.random() < failing}
    queues = open_queues(is_right, 0.3, 20, seed=5)
    runs = [outcomes_of(is_right, fails, random.Random(seed)) for seed in range(20)]
    assert all(run == runs[0] for run in runs)
    kept = keep(queues, runs[0], 0.3)
    assert not fails & set(kept)
    if failing < 0.5:
        assert (sum(is_right[each] for each in kept), len(kept)) == (6, 20)
    else:  # both kinds run out
        assert len(runs[0]) == 100
        assert 0 < len(kept) < 20


def test_when_one_kind_runs_out_the_share_is_kept_and_the_rest_given_up():
    is_right = {str(i): i < 50 for i in range(100)}
    queues = open_queues(is_right, 0.3, 100, seed=0)
    wrong = list(queues[1].ids)
    outcomes: dict[str, object] = dict.fromkeys(is_right, 1)
    outcomes |= dict.fromkeys(wrong[:15])
    kept = keep(queues, outcomes, 0.3)
    assert (sum(is_right[each] for each in kept), len(kept)) == (15, 50)

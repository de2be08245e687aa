"""Groups are sampled until enough are kept, within the rounds that are allowed."""

import pytest
import torch

from srpo_fast.batch import Group, Prompt
from srpo_fast.group_collection import Collection, collect_groups
from tests.prompt_case import bare_prompt


def collect(keeps, *, wanted: int = 4, refill_rounds: int = 0, size: int = 1000) -> tuple[Collection, list[int]]:
    """What prompts 0, 1, 2, ... up to `size` come to, and how many were asked for in every round.

    keeps: whether the group of prompt n is kept.
    """
    left, asked = [bare_prompt(str(i)) for i in range(size)], []

    def draw(count: int) -> list[Prompt]:
        assert count <= len(left)
        asked.append(count)
        return [left.pop(0) for _ in range(count)]

    collected = collect_groups(
        draw,
        lambda: len(left),
        lambda prompts: [Group(prompt=prompt, completions=(), scores=()) for prompt in prompts],
        lambda groups: torch.tensor([keeps(int(g.prompt.question.id)) for g in groups], dtype=torch.bool),
        wanted=wanted,
        refill_rounds=refill_rounds,
    )
    return collected, asked


def names(groups) -> list[int]:
    return [int(group.prompt.question.id) for group in groups]


def test_without_refills_a_step_is_one_round_and_keeps_what_the_filter_leaves():
    collected, asked = collect(lambda n: n % 2 == 1)
    assert asked == [4]
    assert names(collected.groups) == [0, 1, 2, 3]
    assert names(collected.kept) == [1, 3]
    assert collected.metrics == {"rollout/rounds": 1.0, "rollout/groups_sampled": 4.0, "rollout/carried": 0.0}


def test_no_refill_is_drawn_when_none_is_missing():
    collected, asked = collect(lambda n: True, refill_rounds=3)
    assert collected.rounds == 1
    assert asked == [4]


def test_a_refill_draws_what_the_kept_share_so_far_needs():
    # 3 of 4 are kept: one is missing, at 3/4 that takes 2 prompts; both are kept, and the last is surplus
    collected, asked = collect(lambda n: n != 2, refill_rounds=3)
    assert asked == [4, 2]
    assert names(collected.groups) == [0, 1, 2, 3, 4, 5]
    assert names(collected.kept) == [0, 1, 3, 4]
    assert collected.rounds == 2


def test_while_nothing_is_kept_a_refill_is_a_whole_step():
    collected, asked = collect(lambda n: n >= 8, refill_rounds=5)
    assert asked == [4, 4, 4]
    assert names(collected.kept) == [8, 9, 10, 11]


@pytest.mark.parametrize("refill_rounds", [0, 1, 4])
def test_the_rounds_are_bounded(refill_rounds):
    collected, asked = collect(lambda n: False, refill_rounds=refill_rounds)
    assert collected.rounds == len(asked) == 1 + refill_rounds
    assert collected.kept == []


def test_a_source_that_runs_dry_ends_the_step():
    collected, asked = collect(lambda n: n == 0, refill_rounds=9, size=5)
    assert names(collected.groups) == [0, 1, 2, 3, 4]
    assert names(collected.kept) == [0]
    assert asked == [4, 1]


def test_every_rank_decides_alike():
    (one, _), (other, _) = (collect(lambda n: n % 3 == 0, refill_rounds=2) for _ in range(2))
    assert names(one.kept) == names(other.kept)
    assert torch.equal(one.kept_P, other.kept_P)

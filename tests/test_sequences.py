"""Scored groups become training sequences, completion by completion."""

from dataclasses import replace

import pytest

from srpo_fast.batch import Completion, Group, Score
from srpo_fast.config import AdvantageConfig
from srpo_fast.sequences import group_rewards, kept_groups, training_sequences, without_zero_advantage
from tests.prompt_case import bare_prompt

PLAIN = AdvantageConfig(scale="none", accuracy_low=0.0, accuracy_high=1.0)
MAX_TOKENS = 10


def make_score(total: float, accuracy: float = 0.0, effectiveness: float = 0.0, second: bool = False) -> Score:
    return Score(
        total=total, format=0, accuracy=accuracy, effectiveness=effectiveness, reflection_format=0, length=0,
        first_correct=False, second_correct=second, reasons=(),
    )  # fmt: skip


def make_group(name: str, completions: list[tuple[int, ...]], scores: list[Score], unfinished: int = -1) -> Group:
    made = tuple(
        Completion(
            token_ids=ids,
            rollout_logprobs=tuple(-float(i) for i in ids),
            text="",
            is_finished=i != unfinished,
            policy_version=0,
        )
        for i, ids in enumerate(completions)
    )
    return Group(prompt=bare_prompt(name), completions=made, scores=tuple(scores))


GROUPS = [
    make_group("a", [(1, 2), (3,)], [make_score(1.0), make_score(0.0)]),
    make_group("b", [(4,), (5, 6, 7)], [make_score(2.0), make_score(2.0)]),
]


def test_every_completion_carries_its_own_advantage_prompt_and_log_probs():
    sequences = training_sequences(GROUPS, PLAIN, MAX_TOKENS)
    assert [(s.prompt.question.id, s.completion_ids, s.advantage) for s in sequences] == [
        ("a", (1, 2), 0.5),
        ("a", (3,), -0.5),
        ("b", (4,), 0.0),
        ("b", (5, 6, 7), 0.0),
    ]
    assert sequences[3].rollout_logprobs == (-5.0, -6.0, -7.0)
    assert sequences[3].loss_mask == (True, True, True)


def test_a_step_without_groups_has_no_sequences():
    assert training_sequences([], PLAIN, MAX_TOKENS) == []


def test_sequences_without_advantage_have_no_gradient_and_can_go():
    sequences = training_sequences(GROUPS, PLAIN, MAX_TOKENS)
    assert [s.completion_ids for s in without_zero_advantage(sequences)] == [(1, 2), (3,)]


@pytest.mark.parametrize(("mask", "left"), [(False, [(1, 2), (3,)]), (True, [(1, 2)])])
def test_a_masked_truncated_completion_still_counts_in_its_group(mask, left):
    cut = make_group("a", [(1, 2), (3,)], [make_score(1.0), make_score(0.0)], unfinished=1)
    sequences = training_sequences([cut], PLAIN.model_copy(update={"mask_truncated": mask}), MAX_TOKENS)
    assert [s.completion_ids for s in sequences] == left
    assert sequences[0].advantage == 0.5


def test_overlong_completions_lose_reward():
    long = make_group("a", [(1,) * 9, (2,)], [make_score(1.0), make_score(1.0)])
    settings = PLAIN.model_copy(update={"overlong_share": 0.4})
    assert group_rewards([long], settings, MAX_TOKENS).tolist() == [[0.25, 1.0]]  # 3 of the 4 last tokens
    assert [s.advantage for s in training_sequences([long], settings, MAX_TOKENS)] == [-0.375, 0.375]


def test_flat_groups_are_dropped_where_they_should_be():
    assert kept_groups(GROUPS, PLAIN, MAX_TOKENS).tolist() == [True, True]
    assert kept_groups(GROUPS, PLAIN.model_copy(update={"drop_flat_groups": True}), MAX_TOKENS).tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("filter_by", "kept"),
    # right -> right throughout: 1 by final answers, 0.75 shaped; wrong -> right throughout: 1 and 1; half: 0.5, 0.375
    [("final_answer", [False, False, True]), ("shaped_accuracy", [True, False, True])],
)
def test_the_filter_knows_both_accuracies(filter_by, kept):
    right_right = make_score(1.5, accuracy=0.5, effectiveness=0.25, second=True)
    wrong_right = make_score(1.5, accuracy=1.0, second=True)  # as the published table has it
    groups = [
        replace(GROUPS[0], scores=(right_right, right_right)),
        replace(GROUPS[0], scores=(wrong_right, wrong_right)),
        replace(GROUPS[0], scores=(right_right, make_score(0.0))),
    ]
    settings = AdvantageConfig(filter_by=filter_by)
    assert kept_groups(groups, settings, MAX_TOKENS).tolist() == kept


def test_a_completion_that_ended_before_its_group_or_began_before_has_older_tokens():
    group = make_group("a", [(1, 2), (3, 4, 5), (6,)], [make_score(1.0)] * 3)
    early, carried, fresh = group.completions
    carried = replace(carried, policy_version=2, token_versions=(0, 1, 2))
    group = replace(group, completions=(early, carried, replace(fresh, policy_version=2)))
    assert [s.older_tokens for s in training_sequences([group], PLAIN, MAX_TOKENS)] == [2, 2, 0]
    assert [s.older_tokens for s in training_sequences(GROUPS, PLAIN, MAX_TOKENS)] == [0, 0, 0, 0]

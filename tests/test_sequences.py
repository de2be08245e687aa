"""Scored groups become training sequences, completion by completion."""

import torch

from srpo_fast.batch import Completion, Group, Prompt, Question, Score
from srpo_fast.sequences import training_sequences, without_zero_advantage

SCORE = Score(
    total=0, format=0, accuracy=0, effectiveness=0, reflection_format=0, length=0, first_correct=False,
    second_correct=False, reasons=(),
)  # fmt: skip


def make_group(name: str, *completions: tuple[int, ...]) -> Group:
    prompt = Prompt(
        question=Question(id=name, text="", images=(), answer=""),
        engine_token_ids=(),
        token_ids=torch.tensor([1]),
        position_ids=torch.zeros(3, 1, dtype=torch.int64),
        pixel_values=torch.empty(0, 8),
        image_grid_thw=torch.empty(0, 3, dtype=torch.int64),
    )
    made = tuple(
        Completion(
            token_ids=ids, rollout_logprobs=tuple(-float(i) for i in ids), text="", is_finished=True, policy_version=0
        )
        for ids in completions
    )
    return Group(prompt=prompt, completions=made, scores=(SCORE,) * len(made))


GROUPS = [make_group("a", (1, 2), (3,)), make_group("b", (4,), (5, 6, 7))]
ADVANTAGES = torch.tensor([[0.5, -0.5], [0.0, 1.0]])


def test_every_completion_carries_its_own_advantage_prompt_and_log_probs():
    sequences = training_sequences(GROUPS, ADVANTAGES, torch.tensor([True, True]))
    assert [(s.prompt.question.id, s.completion_ids, s.advantage) for s in sequences] == [
        ("a", (1, 2), 0.5),
        ("a", (3,), -0.5),
        ("b", (4,), 0.0),
        ("b", (5, 6, 7), 1.0),
    ]
    assert sequences[3].rollout_logprobs == (-5.0, -6.0, -7.0)
    assert sequences[3].loss_mask == (True, True, True)


def test_groups_the_filter_dropped_do_not_train():
    sequences = training_sequences(GROUPS, ADVANTAGES, torch.tensor([False, True]))
    assert {s.prompt.question.id for s in sequences} == {"b"}


def test_sequences_without_advantage_have_no_gradient_and_can_go():
    sequences = training_sequences(GROUPS, ADVANTAGES, torch.tensor([True, True]))
    assert [s.completion_ids for s in without_zero_advantage(sequences)] == [(1, 2), (3,), (5, 6, 7)]

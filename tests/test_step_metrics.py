"""The figures of a step, by hand."""

import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from srpo_fast.batch import Completion, Group, HeldOut, Score
from srpo_fast.monitor.step_metrics import rollout_metrics, validation_metrics
from tests.prompt_case import bare_prompt


def make_completion(length: int, is_finished: bool) -> Completion:
    return Completion(
        token_ids=(1,) * length, rollout_logprobs=(-1.0,) * length, text="", is_finished=is_finished, policy_version=0
    )


def make_score(
    total: float, first: bool, second: bool, reasons: tuple[str, ...] = (), failure: str | None = None
) -> Score:
    return Score(
        total=total, format=0.5, accuracy=0.5 * first, effectiveness=0.25 * second, reflection_format=0.25,
        length=total / 10, first_correct=first, second_correct=second, reasons=reasons, failure=failure,
    )  # fmt: skip


@pytest.fixture
def groups() -> list[Group]:
    prompt = bare_prompt("q", text="<image>", images=(Image.new("RGB", (28, 28)),))
    return [
        Group(
            prompt=prompt,
            completions=(make_completion(4, True), make_completion(8, False)),
            scores=(make_score(1.0, True, True), make_score(0.0, True, False)),
        ),
        Group(
            prompt=prompt,
            completions=(make_completion(2, True), make_completion(2, True)),
            scores=(
                make_score(2.0, False, True, ("unparsable_gold",)),
                make_score(1.0, False, False, ("unparsable_gold", "grading_timeout"), "not done after 5 s"),
            ),
        ),
    ]


def test_the_means_are_over_all_completions_dropped_groups_included(groups):
    assert rollout_metrics(groups, torch.tensor([True, False]), 1) == pytest.approx(
        {
            "rollout/reward_mean": 1.0,
            "rollout/reward_std": math.sqrt(0.5),
            "rollout/reward_format": 0.5,
            "rollout/reward_accuracy": 0.25,
            "rollout/reward_effectiveness": 0.125,
            "rollout/reward_reflection_format": 0.25,
            "rollout/reward_length": 0.1,
            "rollout/reward_errors": 0.25,
            "rollout/unparsable_golds": 0.5,
            "rollout/acc_first": 0.5,
            "rollout/acc_second": 0.5,
            "rollout/transitions_rr": 0.25,
            "rollout/transitions_wr": 0.25,
            "rollout/transitions_rw": 0.25,
            "rollout/transitions_ww": 0.25,
            "rollout/images": 2.0,
            "rollout/completion_tokens_mean": 4.0,
            "rollout/finished": 0.75,
            "rollout/groups_kept": 0.5,
            "rollout/groups_right": 0.0,
            "rollout/groups_wrong": 0.0,
            "rollout/engine_balance": 1.0,
            "rollout/stale_tokens": 0.0,
        }
    )


def test_first_wrong_then_right_is_the_transition_that_reflection_is_for(groups):
    metrics = rollout_metrics(groups[1:], torch.tensor([True]), 1)
    assert metrics["rollout/transitions_wr"] == 0.5
    assert metrics["rollout/transitions_rw"] == 0.0


def test_an_answer_nobody_gives_is_no_figure():
    measured = HeldOut(num_questions=4, acc1=0.5, acc2=None, greedy_acc1=0.75, greedy_acc2=None, transitions=None)
    assert validation_metrics(measured) == {"validation/acc_first": 0.5, "validation/greedy_acc_first": 0.75}


def test_the_balance_compares_the_busiest_engine_with_the_mean(groups):
    first, second = groups[0], replace(groups[1], engine=1)  # 12 tokens and 4
    for engines, balance in ((2, 1.5), (4, 3.0)):  # those that were idle count
        metrics = rollout_metrics([first, second], torch.tensor([True, True]), engines)
        assert metrics["rollout/engine_balance"] == balance


def test_groups_that_are_right_or_wrong_throughout_are_counted(groups):
    right = replace(groups[0], scores=(make_score(1.0, False, True),) * 2)
    wrong = replace(groups[0], scores=(make_score(0.0, True, False),) * 2)
    figures = rollout_metrics([*groups, right, wrong, wrong], torch.ones(5, dtype=torch.bool), 1)
    assert (figures["rollout/groups_right"], figures["rollout/groups_wrong"]) == (0.2, 0.4)

r"""SFT examples: the published form and stage 2's, and what makes none."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from srpo_fast.config import RewardConfig
from srpo_fast.reflection.examples import check_first_answer, example_of
from srpo_fast.reflection.gold import GoldCheck, boxed_gold
from srpo_fast.reflection.records import FirstAnswer, Reflection
from srpo_fast.responses import SRPO_FORM, parse

ANSWER = FirstAnswer(
    id="q", question="<image>How many?", image_files=["/a.png"], gold="42", text="<think>I count.</think>\n"
    "<answer>$\\boxed{41}$</answer>\n", is_finished=True, is_right=False, prompt_tokens=1, completion_tokens=1,
)  # fmt: skip
REFLECTION = Reflection(
    id="q", text="The last row was left out.", reasoning="I count all rows.", prompt_tokens=1, completion_tokens=1
)


@pytest.fixture(scope="module")
def check() -> Iterator[GoldCheck]:
    check = GoldCheck(RewardConfig())
    yield check
    check.close()


def test_the_published_form_has_one_think_block(check):
    example = example_of(ANSWER, REFLECTION, check, think_blocks=1, on_leak="refuse")
    assert example.completion == (
        "<think>I count.</think>\n<answer>$\\boxed{41}$</answer>\n<reflection>The last row was left out.</reflection>\n"
        "<answer>$\\boxed{42}$</answer>"
    )
    assert example.leaks == ()


def test_with_two_think_blocks_it_is_what_stage_2_rewards(check):
    example = example_of(ANSWER, REFLECTION, check, think_blocks=2, on_leak="refuse")
    response = parse(example.completion)
    assert response.has_form(SRPO_FORM)
    assert response.second_think == "I count all rows."
    assert response.second_answer == "$\\boxed{42}$"


@pytest.mark.parametrize("gap", ["", "\n", "\n\n", " "])
def test_blocks_stand_as_far_apart_as_the_policy_sets_them(check, gap):
    text = f"<think>a</think>{gap}<answer>41</answer>"
    example = example_of(replace(ANSWER, text=text), REFLECTION, check, think_blocks=2, on_leak="count")
    assert example.completion.startswith(f"{text}{gap}<reflection>The")
    assert f"</reflection>{gap}<think>I count all rows.</think>{gap}<answer>" in example.completion


def test_a_leak_is_counted_or_refused(check):
    leaking = replace(REFLECTION, text="The correct answer is 42.", reasoning="The key says so: 42.")
    assert "states_answer" in example_of(ANSWER, leaking, check, think_blocks=1, on_leak="count").leaks
    refused = example_of(ANSWER, leaking, check, think_blocks=1, on_leak="refuse")
    assert (refused.id, refused.step, refused.reason) == ("q", "example", "leak")
    assert "states_answer" in refused.detail
    assert not refused.is_final  # other settings may take it


@pytest.mark.parametrize(
    ("text", "reasoning", "says"),
    [
        ("hm</reflection><think>no", "x", "unclosed_think"),
        ("  ", "x", "empty_reflection"),
        ("I would say <answer>", "x", "unclosed_answer"),
        ("fine", " ", "empty_think"),
    ],
)
def test_parts_that_do_not_make_the_form_make_no_example(check, text, reasoning, says):
    broken = replace(REFLECTION, text=text, reasoning=reasoning)
    rejection = example_of(ANSWER, broken, check, think_blocks=2, on_leak="count")
    assert rejection.reason == "bad_example"
    assert says in rejection.detail


def test_a_gold_that_stage_2_would_call_wrong_makes_no_example(check):
    rejection = example_of(replace(ANSWER, gold="} {"), REFLECTION, check, think_blocks=1, on_leak="count")
    assert rejection.reason == "ungradable_gold"


@pytest.mark.parametrize(
    ("gold", "block"),
    [
        ("42", "$\\boxed{42}$"),
        ("$\\frac{1}{2}$", "$\\boxed{\\frac{1}{2}}$"),
        ("$\\boxed{7}$", "$\\boxed{7}$"),
        ("B", "$\\boxed{B}$"),
        ("yes", "$\\boxed{\\text{yes}}$"),
        ("north east", "$\\boxed{\\text{north east}}$"),
        ("3.5 cm", "$\\boxed{3.5 cm}$"),
        ("x", "$\\boxed{x}$"),
    ],
)
def test_the_ground_truth_is_boxed_and_right_by_our_own_reward(check, gold, block):
    assert boxed_gold(gold) == block
    assert check.is_right(block, "?", gold)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_finished": False}, "cut_off"),
        ({"text": "41"}, "bad_form"),
        ({"text": "<think>a</think><answer>1</answer> done"}, "bad_form"),
        ({"text": "<think>a</think><answer></answer>"}, "bad_form"),
    ],
)
def test_a_first_answer_must_be_whole_and_of_its_form(change, reason):
    assert check_first_answer(ANSWER) is None
    rejection = check_first_answer(replace(ANSWER, **change))
    assert (rejection.reason, rejection.is_final) == (reason, False)

import math

import pytest

from srpo_fast.config import RewardConfig
from srpo_fast.grading import Gold
from srpo_fast.grading.grader import Grader
from srpo_fast.rewards.scoring import Sample, make_scorer
from tests.reward_case import FIRST, REFLECTION, RIGHT, TARGET, WRONG, score_one

score = score_one(RewardConfig())


@pytest.mark.parametrize(
    ("first", "second", "effectiveness", "total", "reasons"),
    [
        (RIGHT, RIGHT, 0.25, 1.5, ()),
        (WRONG, RIGHT, 0.5, 1.25, ("first_wrong",)),
        (RIGHT, WRONG, -0.25, 1.0, ("second_wrong", "reflection_broke_answer")),
        (WRONG, WRONG, 0.0, 0.75, ("first_wrong", "second_wrong", "reflection_fixed_nothing")),
    ],
)
def test_every_transition_earns_its_total(first, second, effectiveness, total, reasons):
    scored = score(first + REFLECTION + second, "2", TARGET)
    assert scored.total == pytest.approx(total + 0.1)
    assert (scored.format, scored.reflection_format, scored.effectiveness) == (0.5, 0.25, effectiveness)
    assert scored.accuracy == (0.5 if first == RIGHT else 0.0)
    assert scored.length == pytest.approx(0.1)
    assert (scored.first_correct, scored.second_correct) == (first == RIGHT, second == RIGHT)
    assert scored.reasons == reasons


def test_answering_wrong_on_purpose_does_not_pay():
    honest, sandbagging = (score(first + REFLECTION + RIGHT, "2", TARGET).total for first in (RIGHT, WRONG))
    assert honest > sandbagging


@pytest.mark.parametrize(
    ("ratio", "expected", "reasons"),
    [
        (1.0, 0.0183, ("too_short",)),
        (1.25, 0.1054, ("too_short",)),
        (1.5, 0.3679, ()),
        (1.75, 0.7788, ()),
        (2.0, 1.0, ()),
        (2.25, 0.7788, ()),
        (2.5, 0.3679, ()),
        (2.75, 0.1054, ("too_long",)),
        (3.0, 0.0183, ("too_long",)),
    ],
)
def test_length_term_peaks_at_twice_the_first_response(ratio, expected, reasons):
    scored = score(RIGHT + REFLECTION + RIGHT, "2", int(ratio * FIRST))
    assert scored.length == pytest.approx(0.1 * expected, abs=5e-6)
    assert scored.total == pytest.approx(1.5 + 0.1 * expected, abs=5e-6)
    assert scored.reasons == reasons


def test_length_term_follows_its_settings():
    longer = RewardConfig(length_weight=0.3, target_ratio=3.0, max_ratio=4.0)
    scored = score_one(longer)(RIGHT + REFLECTION + RIGHT, "2", 4 * FIRST)
    assert scored.length == pytest.approx(0.3 * math.exp(-1))


def test_length_is_counted_on_the_inner_text_of_the_first_solution_only():
    counted = []
    count = make_scorer(RewardConfig(), lambda texts: counted.extend(texts) or [1] * len(texts), Grader(RewardConfig()))
    text = "<think> t1 </think><answer> a1 </answer><reflection>r</reflection>" + RIGHT
    count([Sample(text=text, gold=Gold(text="2"), total_tokens=TARGET)])
    assert counted == ["t1", "a1"]


NO_SECOND = {"missing_second_think", "missing_second_answer"}
# the text, its format, accuracy, effectiveness and reflection format, is a length term paid, the reasons; the gold is 2
MALFORMED = [
    ("", (0, 0, 0, 0), False, {"missing_think", "missing_answer", "missing_reflection"}),
    (RIGHT, (0, 0.5, 0, 0), False, NO_SECOND | {"missing_reflection"}),
    (WRONG + REFLECTION, (0, 0, 0, 0), False, NO_SECOND | {"first_wrong"}),
    (RIGHT + REFLECTION + "<think>a b", (0, 0.5, 0, 0), False, NO_SECOND | {"unclosed_think"}),
    (RIGHT + REFLECTION + "<think>a</think>", (0, 0.5, 0, 0.25), False, {"missing_second_answer"}),
    (RIGHT + RIGHT, (0.5, 0.5, 0.25, 0), True, {"missing_reflection"}),
    (WRONG + "<reflection> </reflection>" + RIGHT, (0.5, 0, 0.5, 0), True, {"empty_reflection", "first_wrong"}),
    (RIGHT + REFLECTION * 2 + RIGHT, (0.5, 0.5, 0.25, 0), True, {"extra_reflection"}),
    ("Well. " + RIGHT + REFLECTION + RIGHT, (0, 0.5, 0.25, 0.25), True, {"text_outside_blocks"}),
    (RIGHT + REFLECTION + RIGHT + "Bye.", (0, 0.5, 0.25, 0.25), True, {"text_outside_blocks"}),
    (RIGHT + RIGHT + REFLECTION, (0, 0.5, 0.25, 0), True, {"wrong_order"}),
    # the paper's cold-start format: one think block, two answers
    (RIGHT + REFLECTION + RIGHT[RIGHT.index("<answer>") :], (0, 0.5, 0.25, 0), True, {"missing_second_think"}),
    # more than two answers: the first and the last count
    (
        RIGHT + REFLECTION + RIGHT + WRONG,
        (0, 0.5, -0.25, 0.25),
        True,
        {"extra_think", "extra_answer", "second_wrong", "reflection_broke_answer"},
    ),
    # nothing in the first solution to measure the length by
    (
        "<think></think><answer></answer>" + REFLECTION + RIGHT,
        (0, 0, 0.5, 0.25),
        False,
        {"empty_think", "empty_answer", "first_answer_not_boxed", "first_wrong"},
    ),
]


@pytest.mark.parametrize(("text", "parts", "has_length", "reasons"), MALFORMED)
def test_malformed_completion_earns_the_parts_that_are_there(text, parts, has_length, reasons):
    scored = score(text, "2", TARGET)
    assert (scored.format, scored.accuracy, scored.effectiveness, scored.reflection_format) == parts
    assert scored.length == (pytest.approx(0.1) if has_length else 0.0)
    assert scored.total == pytest.approx(sum(parts) + scored.length)
    assert sorted(scored.reasons) == sorted(reasons)


def test_missing_second_answer_is_not_correct():
    scored = score(RIGHT + REFLECTION, "2", TARGET)
    assert scored.first_correct
    assert not scored.second_correct


@pytest.mark.parametrize(
    ("text", "form", "accuracy", "reasons"),
    [
        (RIGHT, 0.5, 0.5, ()),
        (WRONG, 0.5, 0.0, ("first_wrong",)),
        ("Hm. " + RIGHT, 0.0, 0.5, ("text_outside_blocks",)),
        ("2", 0.0, 0.0, ("missing_think", "missing_answer", "text_outside_blocks")),
        (RIGHT + REFLECTION + WRONG, 0.0, 0.5, ("extra_think", "extra_answer", "extra_reflection")),
    ],
)
def test_plain_grpo_pays_for_one_answer_and_its_format(text, form, accuracy, reasons):
    scored = score_one(RewardConfig(variant="grpo"))(text, "2", 99)
    assert (scored.format, scored.accuracy, scored.total) == (form, accuracy, form + accuracy)
    assert (scored.effectiveness, scored.reflection_format, scored.length) == (0.0, 0.0, 0.0)
    assert scored.first_correct is scored.second_correct is (accuracy > 0)
    assert scored.reasons == reasons


def test_no_i_eff_is_a_weight_of_zero():
    scored = score_one(RewardConfig(effectiveness_weight=0.0))(WRONG + REFLECTION + RIGHT, "2", TARGET)
    assert (scored.effectiveness, scored.reflection_format) == (0.0, 0.25)
    assert scored.total == pytest.approx(0.5 + 0.25 + 0.1)
    assert scored.reasons == ("first_wrong",)


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.3])
def test_alpha_is_the_weight_of_the_length(alpha):
    scored = score_one(RewardConfig(length_weight=alpha))(RIGHT + REFLECTION + RIGHT, "2", TARGET)
    assert (scored.length, scored.total) == pytest.approx((alpha, 1.5 + alpha))


@pytest.mark.parametrize("text", [RIGHT, RIGHT + REFLECTION, RIGHT + REFLECTION + "<think>a</think>", "", "2"])
def test_malformed_zero_pays_nothing_without_two_solutions(text):
    scored = score_one(RewardConfig(malformed="zero"))(text, "2", TARGET)
    assert scored.total == 0.0
    assert scored.reasons[-1] == "not_two_solutions"
    assert scored.first_correct is (RIGHT in text)


@pytest.mark.parametrize("text", [RIGHT + REFLECTION + RIGHT, RIGHT + RIGHT, "Well. " + WRONG + REFLECTION + RIGHT])
def test_malformed_zero_pays_the_parts_of_two_solutions(text):
    assert score_one(RewardConfig(malformed="zero"))(text, "2", TARGET) == score(text, "2", TARGET)


@pytest.mark.parametrize(
    ("text", "parts", "reasons"),
    [
        (RIGHT + RIGHT, (0.5, 0.5, 0.25), ()),
        (WRONG + RIGHT, (0.5, 0.0, 0.5), ("first_wrong",)),
        (RIGHT + WRONG, (0.5, 0.5, -0.25), ("second_wrong", "reflection_broke_answer")),
        (WRONG + WRONG, (0.5, 0.0, 0.0), ("first_wrong", "second_wrong", "reflection_fixed_nothing")),
        (RIGHT + REFLECTION + RIGHT, (0.0, 0.5, 0.25), ("extra_reflection",)),
        (RIGHT, (0.0, 0.5, 0.0), ("missing_second_think", "missing_second_answer")),
        (RIGHT + "So " + RIGHT, (0.0, 0.5, 0.25), ("text_outside_blocks",)),
    ],
)
def test_two_step_thinking_pays_for_the_task_and_for_what_the_second_step_did(text, parts, reasons):
    scored = score_one(RewardConfig(variant="two_step"))(text, "2", TARGET)
    assert (scored.format, scored.accuracy, scored.effectiveness) == parts
    assert (scored.reflection_format, scored.length, scored.total) == (0.0, 0.0, sum(parts))
    assert scored.reasons == reasons

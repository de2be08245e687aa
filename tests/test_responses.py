import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srpo_fast.responses import SINGLE_FORM, SRPO_FORM, TWO_STEP_FORM, Fault, boxed, final_value, parse

FIRST = r"<think>3141</think><answer>$\boxed{9}$</answer>"
REFLECTION = "<reflection>reading wrong; 2 is 7</reflection>"
SECOND = r"<think>3147;4,8,15</think><answer>$\boxed{15}$</answer>"

fragments = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "<reflection>", "</reflection>"])
    | st.sampled_from([r"\boxed{", "{", "}", "\\", "x", " ", "\n", FIRST, REFLECTION, SECOND])
).map("".join)


def test_five_blocks_are_read_apart():
    response = parse(f"{FIRST}\n {REFLECTION}{SECOND}\n")
    assert (response.first_think, response.first_answer) == ("3141", r"$\boxed{9}$")
    assert response.reflection == "reading wrong; 2 is 7"
    assert (response.second_think, response.second_answer) == ("3147;4,8,15", r"$\boxed{15}$")
    assert response.has_form(SRPO_FORM)
    assert response.has_well_formed_solutions
    assert response.has_well_formed_reflection
    assert response.faults(SRPO_FORM) == ()
    assert not response.has_form(SINGLE_FORM)


def test_single_answer_has_no_second_one_and_is_well_formed_on_its_own():
    response = parse(FIRST)
    assert response.first_answer == r"$\boxed{9}$"
    assert (response.second_think, response.second_answer, response.reflection) == (None, None, None)
    assert response.has_form(SINGLE_FORM)
    assert response.faults(SINGLE_FORM) == ()
    assert not response.has_form(SRPO_FORM)
    assert response.faults(SRPO_FORM) == ("missing_second_think", "missing_second_answer", "missing_reflection")


NOT_BOXED = "second_answer_not_boxed"
NO_BLOCKS = {"missing_think", "missing_answer", "missing_reflection"}
CUT_SECOND = {"missing_second_think", "missing_second_answer", "unclosed_think"}
UPPER_CASE = FIRST.replace("answer", "Answer")

# text, its faults, are the solutions nevertheless well-formed, is the reflection
MALFORMED = [
    ("", NO_BLOCKS, False, False),
    ("just text", NO_BLOCKS | {"text_outside_blocks"}, False, False),
    (FIRST + SECOND, {"missing_reflection"}, True, False),
    (FIRST + "let me check" + SECOND, {"missing_reflection", "text_outside_blocks"}, True, False),
    (FIRST + "<reflection> \n</reflection>" + SECOND, {"empty_reflection"}, True, False),
    (FIRST + REFLECTION * 2 + SECOND, {"extra_reflection"}, True, False),
    (FIRST + "<reflection>no end" + SECOND, {"missing_reflection", "unclosed_reflection"}, True, False),
    (FIRST + "</reflection>" + SECOND, {"missing_reflection", "unopened_reflection"}, True, False),
    (FIRST + REFLECTION + "<reflection>" + SECOND, {"unclosed_reflection"}, True, False),
    (FIRST + REFLECTION + SECOND + REFLECTION, {"extra_reflection"}, False, False),
    (FIRST + REFLECTION + "</think>" + SECOND, {"unopened_think"}, False, False),
    (FIRST + "well, " + REFLECTION + SECOND, {"text_outside_blocks"}, True, False),
    ("Sure! " + FIRST + REFLECTION + SECOND, {"text_outside_blocks"}, False, True),
    (FIRST + REFLECTION + SECOND + "Done.", {"text_outside_blocks"}, False, True),
    (FIRST + SECOND + REFLECTION, {"wrong_order"}, False, False),
    (REFLECTION + FIRST + SECOND, {"wrong_order"}, False, False),
    (FIRST + REFLECTION + SECOND + SECOND, {"extra_think", "extra_answer"}, False, True),
    (FIRST + REFLECTION + r"<answer>$\boxed{1}$</answer>", {"missing_second_think"}, False, False),
    (FIRST + REFLECTION + "<think>3147;4,8", CUT_SECOND, False, False),
    (FIRST + REFLECTION + "<think>1</answer>", CUT_SECOND | {"unopened_answer"}, False, False),
    (FIRST + REFLECTION + "<think>1</think>", {"missing_second_answer"}, False, True),
    (FIRST + REFLECTION + "<think>1</think><answer>5", {"missing_second_answer", "unclosed_answer"}, False, True),
    (FIRST.replace("</think>", "") + REFLECTION + SECOND, {"missing_second_think", "unclosed_think"}, False, True),
    (FIRST.replace("3141", " ") + REFLECTION + SECOND, {"empty_think"}, False, True),
    (FIRST + REFLECTION + "<think>1</think><answer></answer>", {"empty_answer", NOT_BOXED}, False, True),
    (UPPER_CASE + SECOND, {"missing_second_answer", "missing_reflection", "text_outside_blocks"}, False, False),
]


@pytest.mark.parametrize(("text", "faults", "solutions", "reflection"), MALFORMED)
def test_malformed_text_says_what_is_wrong_and_keeps_its_good_parts(text, faults, solutions, reflection):
    response = parse(text)
    assert sorted(response.faults(SRPO_FORM)) == sorted(faults)
    assert not response.has_form(SRPO_FORM)
    assert response.has_well_formed_solutions is solutions
    assert response.has_well_formed_reflection is reflection


def test_two_step_form_is_two_solutions_and_nothing_else():
    response = parse(FIRST + SECOND)
    assert response.has_form(TWO_STEP_FORM)
    assert response.faults(TWO_STEP_FORM) == ()
    reflected = parse(FIRST + REFLECTION + SECOND)
    assert not reflected.has_form(TWO_STEP_FORM)
    assert reflected.faults(TWO_STEP_FORM) == ("extra_reflection",)
    assert parse(FIRST).faults(TWO_STEP_FORM) == ("missing_second_think", "missing_second_answer")


def test_answer_without_a_box_is_named_but_well_formed():
    response = parse("<think>a</think><answer>9</answer>" + REFLECTION + SECOND)
    assert response.faults(SRPO_FORM) == ("first_answer_not_boxed",)
    assert response.has_form(SRPO_FORM)


def test_more_than_two_answers_give_the_first_and_the_last():
    response = parse("<answer>1</answer><answer>2</answer><answer>3</answer>")
    assert (response.first_answer, response.second_answer) == ("1", "3")


def test_an_unclosed_answer_is_no_answer():
    assert parse("<think>x</think><answer>5").first_answer is None
    assert parse("<answer>5<think>x</think></answer>").first_answer is None


def test_single_form_rejects_what_the_other_form_needs():
    response = parse(FIRST + REFLECTION + SECOND)
    assert response.faults(SINGLE_FORM) == ("extra_think", "extra_answer", "extra_reflection")


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (r"$\boxed{9}$", "9"),
        (r"$\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"\boxed{1} or \boxed { 2 }", "2"),
        (r"\boxed{ \{1, 2\} }", r"\{1, 2\}"),
        (r"\boxed{a\}}", r"a\}"),
        (r"{ \boxed{3}", "3"),
        (r"\boxed{\boxed{4}}", r"\boxed{4}"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{2", None),
        (r"\boxed 5", None),
        ("}{ 12 }", None),
        ("", None),
    ],
)
def test_box_is_the_last_closed_one_with_its_braces_matched(answer, value):
    assert boxed(answer) == value
    assert final_value(f" {answer} ") == (answer.strip() if value is None else value)


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 100_000,
        "</answer>" * 100_000,
        "<think></think>" * 50_000,
        "<" * 1_000_000,
        "<think>" + " " * 1_000_000,
        "<answer>" + r"\boxed{" * 100_000 + "</answer>",
        "<answer>" + r"\boxed{" * 100_000 + "}" * 100_000 + "</answer>",
        "<answer>" + r"\boxed " * 100_000 + "</answer>",
        "<answer>" + r"\boxed" + " " * 1_000_000 + "</answer>",
    ],
    ids=lambda text: f"{text[:20]}...",
)
def test_hostile_text_takes_linear_time(text):
    # 0.1 to 0.5 s here; anything quadratic would take minutes
    start = time.process_time()
    response = parse(text)
    assert response.faults(SRPO_FORM)
    assert final_value(response.first_answer or "") is not None
    assert time.process_time() - start < 10


@given(st.text() | fragments)
def test_any_text_parses_and_the_two_halves_of_the_form_make_the_whole(text):
    response = parse(text)
    halves = response.has_well_formed_solutions and response.has_well_formed_reflection
    assert halves == response.has_form(SRPO_FORM)
    harmless = {Fault.FIRST_ANSWER_NOT_BOXED, Fault.SECOND_ANSWER_NOT_BOXED}
    assert response.has_form(SRPO_FORM) == (not set(response.faults(SRPO_FORM)) - harmless)
    assert response.has_form(SINGLE_FORM) == (not set(response.faults(SINGLE_FORM)) - harmless)
    assert (response.second_answer is None) or (response.first_answer is not None)


@given(st.text())
def test_box_holds_any_text_with_balanced_braces(text):
    value = text.replace("{", "").replace("}", "").replace("\\", "").strip()
    assert boxed(rf"so $\boxed{{ {value} }}$") == value

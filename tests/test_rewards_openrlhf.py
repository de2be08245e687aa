"""The published code's table and gate, as measured by running it; and, by name, those of its bugs that are not here.

Its lengths are counted in words. The texts below are of the same proportions, so that the totals are the measured ones.
Kept is that fewer than two solutions earn 0, and that text before the form and blocks of blanks count as well-formed.
Its port to verl pays nothing for a corrected answer (& binds tighter than ==), if it pays at all (`math` is not
imported); it also takes boxes outside answers for answers, and deletes white space around <, > and /.
"""

import pytest

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from tests.reward_case import score_one

ANSWER = r"<answer> The answer is $\boxed{%s}$. </answer> "
FIRST_THINK = "<think> " + "w " * 40 + "</think> "
SECOND_THINK = "<think> " + "w " * 27 + "</think> "
REFLECTION = "<reflection> w w w w </reflection> "


score_openrlhf = score_one(RewardConfig(variant="openrlhf"))
score_grpo = score_one(RewardConfig(variant="grpo"))


def score(text: str, gold: str = "2") -> Score:
    return score_openrlhf(text, gold, len(text.split()))


def response(first: str, second: str, *, before: str = "", after: str = "", reflection: str = REFLECTION) -> str:
    return before + FIRST_THINK + ANSWER % first + reflection + SECOND_THINK + ANSWER % second + after


def bare(first: str, second: str) -> str:
    return f"<think>w w</think><answer>{first}</answer>{REFLECTION}<think>w</think><answer>{second}</answer>"


@pytest.mark.parametrize(
    ("text", "accuracy", "format", "total"),
    [
        (response("2", "2"), 0.75, 0.5, 1.3498),
        (response("3", "2"), 1.0, 0.5, 1.5998),
        (response("2", "3"), 0.25, 0.5, 0.8498),
        (response("3", "4"), 0.0, 0.5, 0.5998),
        (FIRST_THINK + ANSWER % "2", 0.0, 0.0, 0.0),
        (FIRST_THINK + ANSWER % "2" + REFLECTION + ANSWER % "2", 0.0, 0.0, 0.0),  # the published format of stage 1
        (FIRST_THINK + REFLECTION + SECOND_THINK + "2", 0.0, 0.0, 0.0),
        (response("2", "2", before="Well "), 0.75, 0.5, 1.35),
        (response("2", "2", after="Done "), 0.75, 0.0, 0.85),
        (response("2", "2", reflection=""), 0.75, 0.0, 0.845),
        (response("2", "2", reflection="<reflection> </reflection> "), 0.75, 0.5, 1.347),
    ],
    ids=[
        "kept",
        "corrected",
        "broken",
        "missed",
        "one answer",
        "stage 1 format",
        "no answer tag",
        "text before",
        "text after",
        "no reflection",
        "blank reflection",
    ],
)
def test_published_totals(text, accuracy, format, total):
    scored = score(text)
    assert (scored.accuracy, scored.format) == (accuracy, format)
    assert (scored.effectiveness, scored.reflection_format) == (0.0, 0.0)
    # to the digits that were measured; the exact words of that text are not known, so a thousandth either way
    assert scored.total == pytest.approx(total, abs=1.5e-3)
    assert scored.total == pytest.approx(accuracy + format + scored.length)


def test_lengths_are_those_of_the_measurement():
    # 44 words in the first response, 89 in all
    assert score(response("2", "2")).length == pytest.approx(0.0998, abs=5e-5)


def test_a_boxed_letter_that_is_corrected_or_kept_earns_the_table():
    assert (score(response("A", "B"), "B").accuracy, score(response("B", "B"), "B").accuracy) == (1.0, 0.75)
    assert score(response("A", "B"), "B").total == pytest.approx(1.60, abs=5e-3)


def test_the_gate_pays_nothing_and_says_so():
    scored = score(FIRST_THINK + ANSWER % "2" + REFLECTION + ANSWER % "2")
    assert scored.reasons == ("missing_second_think", "not_two_solutions")
    assert (scored.first_correct, scored.second_correct) == (True, True)  # what is true stays true, for the filter


@pytest.mark.parametrize(
    "text",
    [
        response("2", "2", before="<think>w</think>"),
        response("2", "2", before="</reflection>"),
        response("2", "2", reflection="<reflection></reflection>"),
        response("2", "2", reflection=REFLECTION + "and "),
        response("2", "2", reflection="<reflect> w </reflect>"),
        response("2", "2", reflection=REFLECTION * 2),
        response("2", "2").replace("</reflection>", ""),
    ],
)
def test_other_forms_earn_the_table_only(text):
    scored = score(text)
    assert (scored.accuracy, scored.format) == (0.75, 0.0)
    assert scored.reasons


def test_what_the_form_forgives_is_named_all_the_same():
    assert score(response("2", "2", before="Well ")).reasons == ("text_outside_blocks",)
    assert score(response("2", "2", reflection="<reflection> </reflection> ")).reasons == ("empty_reflection",)


def test_no_length_is_paid_when_the_first_response_is_empty():
    scored = score(f"<think> </think><answer> </answer>{REFLECTION}{SECOND_THINK}{ANSWER % 2}")
    assert (scored.accuracy, scored.format, scored.length) == (1.0, 0.5, 0.0)


# what follows is named after bugs of the published code


@pytest.mark.parametrize(("gold", "wrong"), [("B", "A"), ("12", "13"), (r"\frac{1}{2}", "3")])
def test_tags_around_an_answer_do_not_hide_it(gold, wrong):
    # parsed with its tags around it, a bare letter or number was wrong
    for first, second, accuracy in [
        (gold, gold, 0.75),
        (wrong, gold, 1.0),
        (gold, wrong, 0.25),
        (wrong, wrong, 0.0),
    ]:
        assert score(bare(first, second), gold).accuracy == accuracy


def test_a_kept_letter_is_not_lifted_to_a_corrected_one():
    # with bare letters the substring fallback paid 1.0 whatever the first answer was
    assert score(bare("B", "B"), "B").accuracy == 0.75
    assert score(bare("B", "B"), "b").accuracy == 0.75


@pytest.mark.parametrize("second", ["blue", "I bet on this one", "bbb"])
def test_a_letter_inside_a_word_is_no_choice(second):
    # a letter anywhere in the last answer counted, up to D
    assert score(bare("A", second), "B").accuracy == 0.0


def test_letters_beyond_d_are_choices_too():
    assert score(bare("A", "E"), "E").accuracy == 1.0
    assert score(bare("E", "A"), "E").accuracy == 0.25


@pytest.mark.parametrize("gold", ["", "???", "$$"])
def test_a_gold_that_cannot_be_parsed_makes_nobody_right(gold):
    # it made everybody right
    scored = score(response("2", "2"), gold)
    assert (scored.accuracy, scored.first_correct, scored.second_correct) == (0.0, False, False)


def test_a_gold_with_a_unit_matches_its_number_with_that_unit():
    # the published code reads 12 cm as the product 12 c m
    assert score(bare("12 cm", "12 cm"), "12 cm").accuracy == 0.75


def test_a_gold_that_is_a_word_matches_that_word():
    assert score(bare("no", "yes"), "yes").accuracy == 1.0


def test_the_gold_comes_first_in_a_comparison():
    # math-verify takes an equation for its right-hand side in the answer, not in the gold
    assert score(bare("x = 5", "x = 5"), "5").accuracy == 0.75


@pytest.mark.parametrize("second", [r"$\boxed{B}$", "The answer is B.", "(B) 12 cm", r"\text{B}"])
def test_a_letter_in_a_box_or_a_sentence_is_a_choice(second):
    assert score(bare("A", second), "B").accuracy == 1.0


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("", {"missing_think", "missing_answer", "missing_reflection"}),
        ("2", {"missing_think", "missing_answer", "missing_reflection", "text_outside_blocks"}),
        (FIRST_THINK + ANSWER % "3", {"missing_second_think", "missing_second_answer", "missing_reflection"}),
    ],
)
def test_an_exception_is_not_what_makes_the_gate(text, reasons):
    # which fewer than two answer blocks raised
    scored = score(text)
    assert (scored.total, scored.failure) == (0.0, None)
    assert set(scored.reasons) - {"first_wrong"} == reasons | {"not_two_solutions"}


def test_an_answer_may_have_line_breaks():
    # plain GRPO did not find it
    assert score(bare("\n2\n", "so\n$\\boxed{2}$\n")).accuracy == 0.75
    assert score_grpo("<think>w</think><answer>\n$\\boxed{2}$\n</answer>", "2", 9).total == 1.0


@pytest.mark.parametrize(("answer", "gold"), [("blue", "B"), ("2", ""), ("2", "???")])
def test_plain_grpo_has_none_of_these(answer, gold):
    scored = score_grpo(f"<think>w</think><answer>{answer}</answer>", gold, 9)
    assert (scored.accuracy, scored.first_correct) == (0.0, False)


def test_a_box_outside_an_answer_is_no_answer():
    text = bare("3", "3").replace("<think>w w", r"<think>$\boxed{2}$").replace("w w w w", r"$\boxed{2}$")
    assert score(text).accuracy == 0.0
    assert r"\boxed{2}" in text


def test_comparison_signs_and_fractions_keep_their_spaces():
    assert score(bare("5 / 6 m", "x < 3"), "x < 3").accuracy == 1.0
    assert score(bare("2 1/2", "21/2"), "2.5").accuracy == 0.25

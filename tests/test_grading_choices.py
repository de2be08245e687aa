import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srpo_fast.grading.choices import letter_of, letters_of, marked_text, options_in

CM = (("A", "12 cm"), ("B", "15 cm"), ("C", "18 cm"))


@pytest.mark.parametrize(
    "question",
    [
        "How long is AB?\nA. 12 cm\nB. 15 cm\nC. 18 cm",
        "How long is AB? A. 12 cm B. 15 cm C. 18 cm",
        "How long is AB?\n(A) 12 cm\n(B) 15 cm\n(C) 18 cm\n",
        "How long is AB? (A) 12 cm (B) 15 cm (C) 18 cm",
        "How long is AB\nChoices:\nA:12 cm\nB:15 cm\nC:18 cm\nAnswer with the letter.",
        "How long is AB Options: A: 12 cm B: 15 cm C: 18 cm",
        "How long is AB?\nA) 12 cm\nB) 15 cm\nC) 18 cm",
        "How long is AB?\n  A. 12 cm\n\n  B. 15 cm\n\n  C. 18 cm\n\nGive the option's letter, e.g., A, B, C.",
        "How long is AB ( )\nA. 12 cm; B. 15 cm; C. 18 cm",
        "AB\N{FULLWIDTH LEFT PARENTHESIS} \N{FULLWIDTH RIGHT PARENTHESIS}"
        "A\N{FULLWIDTH FULL STOP}12 cm B\N{FULLWIDTH FULL STOP}15 cm C\N{FULLWIDTH FULL STOP}18 cm",
        "Hint: give the letter, e.g., A, B, C, D.\nQuestion: how long?\nChoices:\n(A) 12 cm\n(B) 15 cm\n(C) 18 cm",
        "(A) and (B) are points. How long is AB?\nA. 12 cm\nB. 15 cm\nC. 18 cm",
    ],
)
def test_options_are_read_in_every_form(question):
    assert options_in(question) == CM


@pytest.mark.parametrize(
    "question",
    [
        "",
        "A triangle ABC has sides 3, 4 and 5. Find its area.",
        "Points A, B and C lie on a line.",
        "Find the distance of (A) and (B).",
        "Triangle A: base 5, triangle B: base 7. Which is larger?",
        "If P(A) = 0.5 and P(B) = 0.3, what is P(A)P(B)?",
        "Ask A. Lincoln and B. Franklin.",
        "From point A. B. and C. follow.",
        "B. 15 cm\nC. 18 cm",
        "A. 12 cm",
    ],
)
def test_letters_of_other_kinds_are_no_options(question):
    assert options_in(question) == ()


def test_two_or_ten_options_are_read():
    assert options_in("Is it so? A. Yes B. No") == (("A", "Yes"), ("B", "No"))
    ten = options_in("Which?\n" + "\n".join(f"({letter}) {place}" for place, letter in enumerate("ABCDEFGHIJ")))
    assert ten == tuple((letter, str(place)) for place, letter in enumerate("ABCDEFGHIJ"))


def test_options_may_be_letters_without_text():
    assert options_in("Which figure? (A) (B) (C) (D)") == (("A", ""), ("B", ""), ("C", ""), ("D", ""))


def test_letters_inside_an_option_do_not_end_it():
    assert options_in("Which is true? A. angle A. B. angle B. C. f(A) = 3") == (
        ("A", "angle A."), ("B", "angle B."), ("C", "f(A) = 3"),
    )  # fmt: skip


@pytest.mark.parametrize("piece", ["A. ", "(A) ", "A\n", "(A)\n(B) ", "A:", " \t", "Choices: ", "A. x B. "])
def test_questions_are_read_in_linear_time(piece):
    start = time.process_time()
    options_in(piece * (60_000 // len(piece)))
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B)", "B"), ("(B) 15 cm", "B"), ("B. 12 cm", "B"), ("B 15 cm", "B"),
        ("B - 15 cm", "B"), ("Option B", "B"), ("the correct choice is (B)", "B"), ("B is correct", "B"),
        ("(C)", "C"), ("D", None), ("A or B", None), ("(A) or (B)", None), ("A, B", None), ("not B", None),
        ("B 12 cm", None), ("15 cm", None), ("A triangle", None), ("a.m", None), ("AB", None), ("A. B. C", None),
    ],
)  # fmt: skip
def test_an_answer_names_one_letter_or_none(answer, letter):
    assert letter_of(answer, CM) == letter


def test_several_letters_are_a_set():
    assert letters_of("A, C", CM) == letters_of("CA", CM) == letters_of("(A) and (C)", CM) == frozenset("AC")
    assert letters_of("A", CM) is letters_of("AA", CM) is letters_of("AD", CM) is letters_of("AC", ()) is None


def test_the_text_after_a_marker():
    assert marked_text("(B) 15 cm") == marked_text("B. 15 cm") == "15 cm"
    assert marked_text("B") == marked_text("Bad") == ""


@given(st.text(alphabet="ABCD().:\n xyz?,", max_size=60))
def test_options_run_from_a_on_without_a_gap(question):
    letters = [letter for letter, _ in options_in(question)]
    assert letters == list("ABCDEFGHIJ"[: len(letters)])

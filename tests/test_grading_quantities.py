from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srpo_fast.grading.answer_text import normalized
from srpo_fast.grading.quantities import EXACT, Tolerance, quantity


def read(text: str):
    return quantity(normalized(text))


def are_near(answer: str, gold: str, tolerance: Tolerance = EXACT) -> bool:
    return read(answer).is_near(read(gold), tolerance)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("12", 12, ""), ("12 cm", 12, "cm"), (r"12\,\mathrm{cm}", 12, "cm"), ("12 cm^{2}", 12, "cm^2"),
        (r"2\frac{1}{2} hours", Fraction(5, 2), "h"), ("$1,234.50", Fraction(2469, 2), "usd"), ("50%", 50, "%"),
        (r"30^\circ", 30, "deg"), ("5 (cm)", 5, "cm"), ("-3 m/s", -3, "m s^-1"), ("seven", 7, ""), ("12 units", 12, ""),
        ("Tom has 12 apples", 12, ""), ("about 5 kg", 5, "kg"), ("negative 4", -4, ""),
    ],
)  # fmt: skip
def test_a_quantity_is_a_number_and_a_unit(text, value, unit):
    found = read(text)
    assert (found.value, found.unit) == (value, unit)


@pytest.mark.parametrize(
    "text",
    ["", "x", "2x", "2ab", "2mg", "1, 2", "(1, 2)", "x = 5", "more than 5", "5 or 6", "not 5", "2^3", "1.2.3",
     "1.234,5", "1/0", "3 hours 20 minutes", "June 5 to 7", "5 less than 6", "five hundred"],
)  # fmt: skip
def test_other_things_are_no_quantities(text):
    assert read(text) is None


def test_words_around_a_number_may_be_left_out_but_not_contradict():
    assert are_near("Tom has 12 apples", "12 apples")
    assert are_near("12", "12 red apples")
    assert not are_near("12 green apples", "12 red apples")
    assert not are_near("June 5", "May 5")
    assert not are_near("12 apples", "12 cm")


def test_a_percentage_is_its_share_or_its_number_from_one_on():
    assert are_near("50%", "0.5")
    assert are_near("0.5", "50%")
    assert are_near("50%", "50")
    assert not are_near("0.5%", "0.5")
    assert not are_near("0.5", "0.5%")


def test_tolerances_are_exact_at_their_edges():
    assert are_near("1.01", "1", Tolerance(absolute=0.01))
    assert not are_near("1.0100001", "1", Tolerance(absolute=0.01))
    assert are_near("-101", "-100", Tolerance(relative=0.01))
    assert not are_near("-101.0001", "-100", Tolerance(relative=0.01))
    assert are_near("1.1", "1", Tolerance(relative=0.001, absolute=0.1))  # the larger of the two


def test_decimals_round_both_numbers_halves_up():
    assert are_near("1.235", "1.24", Tolerance(decimals=2))
    assert are_near("-1.235", "-1.24", Tolerance(decimals=2))
    assert are_near("1.2449", "1.2351", Tolerance(decimals=2))
    assert not are_near("1.245", "1.24", Tolerance(decimals=2))


def test_the_golds_decimals_are_those_it_shows():
    assert are_near("3.14159", "3.14", Tolerance(decimals="gold"))
    assert not are_near("3.14159", "3.140", Tolerance(decimals="gold"))
    assert are_near("8.4", "8", Tolerance(decimals="gold"))
    assert not are_near("0.4", "1/3", Tolerance(decimals="gold"))  # a fraction shows none


def test_six_digits_of_a_fraction_are_that_fraction():
    assert are_near("0.333333", "1/3")
    assert are_near("0.666667", "2/3")
    assert are_near("33.3333", "100/3")
    assert not are_near("0.33333", "1/3")
    assert not are_near("0.333333", "0.3333334")  # of two decimals both are meant as they stand


@given(st.fractions(-100, 100, max_denominator=50), st.fractions(-100, 100, max_denominator=50))
def test_zero_tolerance_is_equality(answer, gold):
    for tolerance in (EXACT, Tolerance(relative=0.0, absolute=0.0)):
        assert tolerance.allows(answer, gold, str(gold)) is (answer == gold)

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srpo_fast.grading.literals import MAX_EXPONENT, decimals, read_number, resolution


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("1,234,567", 1234567), (".5", Fraction(1, 2)), ("5.", 5), ("- 3", -3), ("+3", 3), ("1.5e3", 1500),
        (r"1.5 \times 10^{3}", 1500), ("1.5x10^-2", Fraction(3, 200)), ("10^{-3}", Fraction(1, 1000)),
        ("2 1/2", Fraction(5, 2)), (r"2\frac{1}{2}", Fraction(5, 2)), (r"-2\frac{1}{2}", Fraction(-5, 2)),
        (r"\frac{-1}{2}", Fraction(-1, 2)), ("1.5/3", Fraction(1, 2)), ("(-1)/2", Fraction(-1, 2)),
        (r"0.\overline{3}", Fraction(1, 3)), (r"0.1\overline{6}", Fraction(1, 6)), (r".\dot{9}", 1),
    ],
)  # fmt: skip
def test_numbers_are_read_exactly(text, value):
    assert read_number(text) == (value, len(text))


@pytest.mark.parametrize(
    "text", ["", "x", "1.234,5", "1.2.3", "1/0", r"\frac{1}{0}", f"1e{MAX_EXPONENT + 1}", "9" * 5000, "-", "1,23"]
)
def test_other_texts_are_no_number(text):
    number = read_number(text)
    assert number is None or number[1] < len(text)


def test_a_number_ends_where_its_unit_begins():
    assert read_number("12 cm") == (12, 2)
    assert read_number("1,234 x") == (1234, 5)
    assert read_number("x = 5", 4) == (5, 5)


@given(st.decimals(-(10**9), 10**9, places=4))
def test_decimals_are_read_as_they_are_written(number):
    for text in (f"{number:f}", f"{number:,f}", f"{number:e}"):
        assert read_number(text) == (Fraction(Decimal(number)), len(text))


def test_decimals_and_resolution_are_of_plain_decimals_only():
    assert [decimals(text) for text in ("3.14", "3.140", "3", "1,234.5", "1/3", "x")] == [2, 3, 0, 1, None, None]
    assert resolution("3.14159") == Fraction(1, 10**5)
    assert resolution("0.0333333") == Fraction(1, 10**7)
    assert [resolution(text) for text in ("3.1415", "314159", "1/3", "0.00003")] == [None] * 4

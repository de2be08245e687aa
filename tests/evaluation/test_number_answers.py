from fractions import Fraction

import pytest

from srpo_fast.evaluation.number_answers import final_number, final_numbers, numbers_in


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("14", "14"), ("The answer is 14.", "14"), ("14 apples, since 7 + 7 = 14", "14"), ("7 + 7 = 14 apples", "14"),
        ("14 apples because each is 7", "14"), ("Luca needs $1.45 to buy a candy and a pear.", "29/20"),
        ("There are three triangles.", "3"), (r"\boxed{14}", "14"), (r"$\frac{3}{4}$", "3/4"), ("x = 3.5 cm", "7/2"),
        ("25%", "25"), ("1,234", "1234"), ("approximately 22.3 meters", "223/10"), (r"d \approx 22.3", "223/10"),
        ("-5", "-5"), ("minus 5", "-5"), ("45\u00b0", "45"), ("Step 1: 5. Step 2: 6.\nTotal: 11", "11"), ("12.", "12"),
        ("\u7b54\u6848\uff1a12", "12"), ("1.45e3", "1450"), ("The total is $5 + 3 = 8$ balls.", "8"), ("zero", "0"),
        (r"9 \text{ cm}^2", "9"), ("In 2010, the value was 35", "35"), (r"\boxed{3} or rather \boxed{4}", "4"),
        ("2.5 million", None), (r"\boxed{2\sqrt{3}}", None), ("between 2007 and 2008", None), ("5 or 6", None),
        ("5, or 6", None), ("about 5-6", None), ("3:4", None), ("3x", None), ("3,5", None), ("5 red, 3 blue", None),
        ("There are no cars.", None), ("", None), (r"\sqrt{16}", None), ("1 234", None),
        ("a = 2, b = 3", None),
        ("2x = 8, x = 4", "4"),
    ],
)  # fmt: skip
def test_a_number_is_given_or_left_open(text, value):
    answer = final_number(text)
    assert (answer and answer.number.value) == (value and Fraction(value))


def test_units_stay_with_the_number():
    answers = [final_number(text) for text in ("25%", "x = 3.5 cm", "the total is $13.00")]
    assert [answer and answer.number.unit for answer in answers] == ["%", "cm", "usd"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[2007, 2008]", [2007, 2008]), ("The peak lies between 2007 and 2008.", [2007, 2008]), ("(1, 2)", [1, 2]),
        (r"\boxed{[1, 2, 3]}", [1, 2, 3]), ("[5]", [5]), ("5", [5]), ("none", []), ("[a, b]", []),
        ("First [1, 2]. The answer is [3, 4].", [3, 4]),
    ],
)  # fmt: skip
def test_lists_of_numbers_keep_their_order(text, values):
    assert [number.value for number in final_numbers(text)] == values


def test_every_number_of_a_text_in_order():
    found = numbers_in(r"x_1 is 3, then -2.5% or \frac{1}{2}; 1,000 of 10^3")
    assert [str(number.value) for number in found] == ["3", "-5/2", "1/2", "1000", "1000"]

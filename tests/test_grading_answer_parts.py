import pytest
from hypothesis import given
from hypothesis import strategies as st

from srpo_fast.grading.answer_parts import Shape, parts
from srpo_fast.grading.answer_text import normalized


@pytest.mark.parametrize(
    ("text", "shape", "items", "name"),
    [
        ("1, 2 and 3", Shape.LIST, ("1", "2", "3"), ""),
        ("1; 2", Shape.LIST, ("1", "2"), ""),
        (r"2 \text{ or } 3", Shape.LIST, ("2", "3"), ""),
        (r"\pm 2", Shape.LIST, ("2", "-2"), ""),
        (r"1 \pm \sqrt{2}", Shape.LIST, (r"1 +\sqrt{2}", r"1 -\sqrt{2}"), ""),
        ("3 hours 20 minutes", Shape.LIST, ("3 hours", "20 minutes"), ""),
        (r"\{1, 2\}", Shape.SET, ("1", "2"), ""),
        (r"x \in \{1, 2\}", Shape.SET, ("1", "2"), "x"),
        (r"\varnothing", Shape.SET, (), ""),
        (r"\left(1, 2\right)", Shape.TUPLE, ("1", "2"), ""),
        ("(1,234)", Shape.TUPLE, ("1", "234"), ""),
        ("P(1, 2)", Shape.TUPLE, ("1", "2"), ""),
        ("[1, 2)", Shape.RIGHT_OPEN, ("1", "2"), ""),
        (r"x \le 2", Shape.LEFT_OPEN, (r"-\infty", "2"), "x"),
        ("1 < x < 2", Shape.TUPLE, ("1", "2"), "x"),
        (r"2 \ge x > 1", Shape.LEFT_OPEN, ("1", "2"), "x"),
        ("x > 1 and x <= 2", Shape.LEFT_OPEN, ("1", "2"), "x"),
        (r"\{x \mid x > 3\}", Shape.TUPLE, ("3", r"\infty"), "x"),
        (r"(-\infty, 1) \cup (3, \infty)", Shape.UNION, (r"(-\infty, 1)", r"(3, \infty)"), ""),
        ("all real numbers", Shape.TUPLE, (r"-\infty", r"\infty"), ""),
        ("3 : 4 : 5", Shape.RATIO, ("3", "4", "5"), ""),
        ("x = 2 + 3 = 5", Shape.EQUATION, ("5",), "x"),
        ("5 = x", Shape.EQUATION, ("5",), "x"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", Shape.MATRIX, ("1", "2", "3", "4"), "2x2"),
        (r"\begin{cases} x=1 \\ y=2 \end{cases}", Shape.LIST, ("x=1", "y=2"), ""),
    ],
)
def test_answers_are_taken_apart(text, shape, items, name):
    found = parts(normalized(text))
    assert (found.shape, found.items, found.name) == (shape, items, name)


@pytest.mark.parametrize(
    "text",
    ["", "12", "1,234", "x+1", "f(1, 2)", r"\frac{1}{2}", "(x+1)(x-1)", "(1, 2", "1, 2)", "(1, 2}", "=", "x =", "<"],
)
def test_other_texts_are_of_one_piece(text):
    assert parts(text) is None


def test_brackets_protect_what_they_hold():
    assert parts("(1, 2), (3, 4)").items == ("(1, 2)", "(3, 4)")
    assert parts("x = (1, 2)").items == ("(1, 2)",)
    assert parts(r"\{(1, 2), [3, 4]\}").items == ("(1, 2)", "[3, 4]")


@given(st.text(alphabet=r"12,;()[]{}\<>=: xandor", max_size=30))
def test_items_are_never_empty_nor_the_whole(text):
    found = parts(text)
    assert found is None or all(item.strip() for item in found.items)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srpo_fast.grading.answer_text import is_name, is_prose, normalized, variables, words


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["12", " 12 ", "$12$", "$$12$$", r"\(12\)", r"\[12\]", "12.", "**12**", "<answer>12</answer>", r"\boxed{12}",
          r"\text{12}", "The answer is 12.", "Answer: 12", "So the final answer is: 12", "`12`"], "12"),
        ([r"\frac{1}{2}", r"\dfrac{1}{2}", r"\tfrac12", r"\frac 1 2", r"\frac1{2}", "\N{VULGAR FRACTION ONE HALF}"],
         r"\frac{1}{2}"),
        (["1,234", r"1{,}234", r"1\,234", r"1,\!234", "1\N{THIN SPACE}234"], "1,234"),
        (["x^2", "x\N{SUPERSCRIPT TWO}", "x**2", "x ^ 2"], "x^2"),
        (["10^{-12}", "10\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}"], "10^{-12}"),
        (["x_{10} + y_2", "x\N{SUBSCRIPT ONE}\N{SUBSCRIPT ZERO} + y\N{SUBSCRIPT TWO}"], "x_{10} + y_2"),
        ([r"2\frac{5}{8}", "2\N{VULGAR FRACTION FIVE EIGHTHS}", r"2\frac58"], r"2\frac{5}{8}"),
        ([r"x \leq 3", r"x \le 3", "x <= 3", "x \N{LESS-THAN OR EQUAL TO} 3", r"x \leqslant 3"], "x <= 3"),
        ([r"30^\circ", r"30^{\circ}", "30\N{DEGREE SIGN}", r"30\degree", r"30{}^\circ", r"30${}^\circ $",
          r"30^{{}^\circ }", r"30 {}^{\circ}"], r"30^\circ"),
        ([r"(1, 2)", r"\left(1, 2\right)", r"\bigl(1, 2\bigr)"], "(1, 2)"),
        ([r"\$5", "$5", r"$\$5$"], "$5"),
        (["12 cm", r"12\text{ cm}", r"12\,\mathrm{cm}", "12~cm", r"12 \mbox{cm}"], "12 cm"),
        ([r"12\text{ m}", r"12 \mathrm{~m}"], "12 meter"),
        (["-3", "\N{MINUS SIGN}3", "\N{FULLWIDTH HYPHEN-MINUS}3"], "-3"),
        (["", " ", "$$", "<answer></answer>", "."], ""),
    ],
)  # fmt: skip
def test_one_thing_has_one_form(texts, form):
    assert {text: normalized(text) for text in texts} == dict.fromkeys(texts, form)


def test_a_factorial_keeps_its_sign_and_a_cry_does_not():
    assert normalized("5!") == "5!"
    assert normalized("n!") == "n!"
    assert normalized("Rome!") == "Rome"


def test_names_prose_and_mathematics():
    assert [is_name(text) for text in ("yes", "Bar chart", "x", "2x", "x+y", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert is_prose("10 apples")
    assert not any(
        is_prose(text) for text in (r"\sin x", "sin x", r"\frac{a}{b}", "2ab", r"\begin{pmatrix}1\end{pmatrix}")
    )
    assert variables(r"2\pi r^2 + \sin x") == {"r", "x"}


def test_words_forget_case_articles_and_punctuation():
    assert words("The right-angled triangle.") == words("right angled Triangle") == "right angled triangle"
    assert words("A") == "a"
    assert words("-x") != words("x")


@given(st.text(max_size=40))
def test_any_text_has_a_form(text):
    form = normalized(text)
    assert form == form.strip()

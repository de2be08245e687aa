import json
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srpo_fast.grading import EXACT, Gold, Tolerance, Verdict, quick_verdict
from srpo_fast.grading.comparison import MAX_CHARACTERS
from srpo_fast.grading.expressions import symbolic_verdict

CORPUS = [json.loads(line) for line in Path(__file__).with_name("golden").joinpath("answers.jsonl").open()]

# long, nested and repeated enough that anything worse than linear would take minutes
HOSTILE = [
    piece * (60_000 // len(piece))
    for piece in (
        "(", "{", "1", " ", "-", ".", "!", "'", "$", "1,", "1 ", "x ", "1/", "0.", "^{", ",000", "{,}", "**a", "is ",
        "and ", "a.", "A. ", "(A) ", "(A)\n", "A\n", "option ", "is not ", "answer is ", r"\text{", r"\frac",
        r"\boxed{", r"\left(", r"\\ ", r"\{ x |", r"\begin{matrix}", r"\pm ", "\N{NO-BREAK SPACE}", "12 cm ", "1:",
        "x=", "1<", "x >= 1 and ",
    )
]  # fmt: skip

TEXTS = st.text(max_size=40) | st.text(alphabet=r"0123456789.,/-+=()[]{}\^_$%: xyABcm<>!|&", max_size=25)
NUMBERS = st.fractions(-1000, 1000, max_denominator=400)
UNITS = st.sampled_from(["", " cm", r"\text{ cm}", " cm^2", "%", r"^\circ", " apples", " m/s"])


def verdict(answer: str, gold: Gold) -> Verdict:
    return quick_verdict(answer, gold) or symbolic_verdict(answer, gold)


def gold_of(case: dict) -> Gold:
    options = tuple((letter, text) for letter, text in case.get("options", ()))
    tolerance = Tolerance(**case["tolerance"]) if "tolerance" in case else EXACT
    return Gold(text=case["gold"], options=options, tolerance=tolerance)


def test_golden_corpus_holds():
    verdicts = [verdict(case["answer"], gold_of(case)) for case in CORPUS]
    assert [(case, found) for case, found in zip(CORPUS, verdicts, strict=True) if found != case["verdict"]] == []


def test_golden_corpus_covers_both_directions():
    counts = Counter(case["verdict"] for case in CORPUS)
    assert counts["right"] > 300
    assert counts["wrong"] > 150
    assert counts["unparsable_gold"] > 4


def test_most_of_the_corpus_needs_no_symbols():
    undecided = [case for case in CORPUS if quick_verdict(case["answer"], gold_of(case)) is None]
    assert len(undecided) < len(CORPUS) / 5


def test_grading_imports_neither_sympy_nor_torch():
    code = "import sys, srpo_fast.grading; print({'sympy', 'math_verify', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_golds_are_cache_keys():
    one, other = (Gold(text="B", options=(("A", "1"), ("B", "2")), tolerance=Tolerance(absolute=0.1)) for _ in range(2))
    assert hash(one) == hash(other)
    assert one == other
    assert one != Gold(text="B")


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:15]))
def test_verdicts_take_linear_time(text):
    golds = [Gold(text="12"), Gold(text=text[:-1] + "7"), Gold(text="B", options=(("A", "12"), ("B", text[:300])))]
    start = time.process_time()
    for gold in golds:
        quick_verdict(text, gold)
        quick_verdict(gold.text[-MAX_CHARACTERS:], gold)
        quick_verdict(text[: MAX_CHARACTERS // 2], Gold(text=text[: MAX_CHARACTERS // 2 - 1] + "7"))
    assert time.process_time() - start < 3


def test_long_answers_are_compared_as_texts():
    text = "x+1, " * MAX_CHARACTERS
    assert quick_verdict(text, Gold(text=text.strip())) is Verdict.RIGHT
    assert quick_verdict(text, Gold(text="x+1")) is Verdict.WRONG
    assert quick_verdict("B) " + text, Gold(text="B")) is Verdict.RIGHT  # but for their letters


def test_a_letter_counts_only_among_the_options():
    options = (("A", "P"), ("B", "C"))
    assert verdict("C", Gold(text="B", options=options)) is Verdict.RIGHT  # the text of option B
    assert verdict("C", Gold(text="B")) is Verdict.WRONG


@settings(max_examples=300)
@given(TEXTS, st.sampled_from(["9", "B", "yes", "12 cm", "x=5", "", "???", "1, 2", "[1, 2)", "3:4"]) | TEXTS)
def test_quick_verdicts_crash_on_nothing(answer, gold):
    options = (("A", "9"), ("B", answer), ("C", gold))
    assert quick_verdict(answer, Gold(text=gold)) in (*Verdict, None)
    assert quick_verdict(answer, Gold(text=gold, options=options)) in (*Verdict, None)


@settings(max_examples=200)
@given(TEXTS.filter(str.strip))
def test_every_text_equals_itself(text):
    assert quick_verdict(text, Gold(text=text)) is Verdict.RIGHT
    assert quick_verdict(f" {text} ", Gold(text=text)) is Verdict.RIGHT


@given(NUMBERS, UNITS, NUMBERS, UNITS)
def test_exact_equality_of_quantities_is_symmetric(one, unit, other, other_unit):
    text = f"{one.numerator}/{one.denominator}{unit}"
    other_text = rf"\frac{{{other.numerator}}}{{{other.denominator}}}{other_unit}"
    assert quick_verdict(text, Gold(text=other_text)) == quick_verdict(other_text, Gold(text=text))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_lists_are_equal_exactly_when_they_hold_the_same_numbers(one, other):
    answer, gold = ", ".join(map(str, one)), " and ".join(f"{item}.0" for item in other)
    assert (quick_verdict(answer, Gold(text=gold)) is Verdict.RIGHT) is (sorted(one) == sorted(other))


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_integers_are_right_exactly_when_equal(answer, gold):
    expected = Verdict.RIGHT if answer == gold else Verdict.WRONG
    for text in (str(answer), f"{answer:,}.00", f"${answer}$", f"{answer} cm", rf"x = {answer}"):
        assert quick_verdict(text, Gold(text=str(gold))) is expected


@given(st.decimals(-1000, 1000, places=3), st.decimals(-1000, 1000, places=3) | st.just(None))
def test_decimals_are_right_exactly_when_equal(answer, gold):
    gold = answer if gold is None else gold
    expected = Verdict.RIGHT if answer == gold else Verdict.WRONG
    assert quick_verdict(f"{answer:f}", Gold(text=f"{gold:f}0")) is expected
    if answer:
        assert quick_verdict(f"{answer:e}", Gold(text=str(Fraction(gold)))) is expected

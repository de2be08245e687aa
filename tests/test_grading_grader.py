"""Verdicts on many answers: only what strings and numbers leave open goes to workers, and only once."""

import psutil
import pytest

from srpo_fast.config import RewardConfig
from srpo_fast.grading import Gold, Verdict
from srpo_fast.grading import grader as grader_module
from srpo_fast.grading.grader import Check, Grader

GOLD = Gold(text=r"\frac{a}{b}")
EQUAL, OTHER = r"a\cdot\frac{1}{b}", r"\frac{b}{a}"


@pytest.fixture
def grader():
    grader = Grader(RewardConfig(workers=2, time_limit=2.0))
    yield grader
    grader.close()


def test_what_strings_and_numbers_decide_starts_no_process(grader):
    before = psutil.Process().children()
    pairs = [("12", Gold(text="12")), ("13", Gold(text="12")), ("B", Gold(text="B")), ("x", Gold(text=""))]
    assert [check.verdict for check in grader.checks(pairs).values()] == [
        Verdict.RIGHT, Verdict.WRONG, Verdict.RIGHT, Verdict.UNPARSABLE_GOLD,
    ]  # fmt: skip
    assert psutil.Process().children() == before


def test_what_they_do_not_decide_is_compared_symbolically(grader):
    checks = grader.checks([(EQUAL, GOLD), (OTHER, GOLD), ("12", Gold(text="12"))])
    assert checks == {
        (EQUAL, GOLD): Check(Verdict.RIGHT),
        (OTHER, GOLD): Check(Verdict.WRONG),
        ("12", Gold(text="12")): Check(Verdict.RIGHT),
    }


def test_checks_that_fail_change_no_other_verdict(checked, grader):
    faults = {
        "91": (Verdict.TIMEOUT, "not done after 2 s"),
        "92": (Verdict.CRASH, "ended by SIGSEGV"),
        "93": (Verdict.CRASH, "exited with code 3"),
        "94": (Verdict.CRASH, "ValueError: no such thing (line 14 of"),
    }
    good = [(f"x^{n}", Gold(text=rf"\frac{{x^{{{n + n % 2}}}}}{{1}}")) for n in range(3, 13)]
    bad = [(rf"x^2 + {fault}", Gold(text=r"\frac{x}{2}")) for fault in faults]
    checks = grader.checks([*good[:4], *bad, *good[4:]])
    assert [checks[pair] for pair in good] == [Check(Verdict.WRONG), Check(Verdict.RIGHT)] * 5
    for pair, (verdict, says) in zip(bad, faults.values(), strict=True):
        assert checks[pair].verdict is verdict
        failure = checks[pair].failure or ""
        assert failure.startswith(f"comparing {pair[0]!r} with the gold {pair[1].text!r}: ")
        assert says in failure


def test_equal_questions_are_asked_once_and_failures_again(checked, grader):
    pairs = [(EQUAL, GOLD), (OTHER, GOLD), ("x^2 + 94", Gold(text="2x"))]
    for _ in range(3):
        checks = grader.checks(pairs * 10)
    assert len(checks) == 3
    assert sorted(checked.read_text().splitlines()) == sorted([EQUAL, OTHER, *["x^2 + 94"] * 3])


def test_what_is_remembered_is_bounded(checked, grader, monkeypatch):
    monkeypatch.setattr(grader_module, "MAX_REMEMBERED", 2)
    pairs = [(f"{n} x", Gold(text="x + x")) for n in (2, 3, 4)]
    for pair in [*pairs, pairs[2], pairs[0]]:
        grader.checks([pair])
    assert checked.read_text().splitlines() == ["2 x", "3 x", "4 x", "2 x"]
    assert len(grader._known) == 2

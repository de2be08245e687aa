"""Totals, against counts made by hand."""

import pytest

from srpo_fast.evaluation.totals import totals_of
from tests.evaluation.eval_case import TOY, item, marked, one, two

RESPONSES = {
    "a": two("wrong", "right"), "b": two("right", "right"), "c": two("right", "wrong"), "d": two("wrong", "wrong"),
    "e": two("wrong", "right"), "f": one("right"), "g": "right", "h": two("right", "?right"),
    "k": two("right", "right"),
}  # fmt: skip
ITEMS = [item(name, kind=("x",) if name in "abc" else ("x", "y")) for name in "abcdefgh"] + [item("i"), item("k")]


def test_accuracies_transitions_and_counts():
    totals = totals_of(TOY, marked(RESPONSES, *ITEMS), "reflective")
    assert totals["items"] == 10
    assert totals["headline"] == "last"
    assert (totals["first"]["right"], totals["last"]["right"], totals["second"]["right"]) == (6, 6, 4)
    assert totals["responses"] == {"missing": 1, "without_blocks": 1, "one_answer": 1, "two_answers": 7}
    moves = totals["transitions"]
    assert [moves[key] for key in ("wr", "rr", "rw", "ww")] == [2, 2, 2, 1]  # an undecided answer is not right
    assert (moves["fix_rate"], moves["break_rate"]) == pytest.approx((2 / 3, 2 / 4))
    assert totals["figures"]["last"] == {"of_the_first_two": 1.0}
    assert totals["figures"]["first"] == {"of_the_first_two": 0.5}


def test_undecided_answers_count_as_wrong_and_are_bounded():
    last = totals_of(TOY, marked(RESPONSES, *ITEMS), "reflective")["last"]
    assert (last["undecided"], last["accuracy"], last["bound"]) == pytest.approx((1, 6 / 10, 7 / 10))


def test_an_item_counts_in_every_value_of_its_tags():
    tags = totals_of(TOY, marked(RESPONSES, *ITEMS), "reflective")["by_tag"]["kind"]
    assert list(tags) == ["x", "y"]
    assert (tags["x"]["items"], tags["x"]["last"]["right"]) == (8, 5)
    assert (tags["y"]["items"], tags["y"]["first"]["right"]) == (5, 3)


def test_the_published_protocol_puts_the_first_answer_on_top():
    assert totals_of(TOY, marked(RESPONSES, *ITEMS, protocol="published"), "published")["headline"] == "first"


def test_without_second_answers_there_are_no_rates():
    moves = totals_of(TOY, marked({"a": one("right")}), "reflective")["transitions"]
    assert (moves["fix_rate"], moves["break_rate"]) == (None, None)

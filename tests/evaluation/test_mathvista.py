from dataclasses import replace
from pathlib import Path

import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmarks.mathvista import BENCHMARK
from srpo_fast.images import load_image
from tests.evaluation.golden_case import disagreements, items_of, records_of

RECORDS = records_of("mathvista")


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_items_hold_what_is_asked():
    option, _, length, *_ = items_of(BENCHMARK, RECORDS)
    assert option.prompt.startswith("<image>\nHint:")
    assert option.prompt.endswith("(A) red\n(B) blue\n(C) dark blue\n(D) green")
    assert (option.gold, option.options) == (("C",), ("red", "blue", "dark blue", "green"))
    assert load_image(option.images[0], Path()).size == (96, 64)
    assert (length.gold, length.answer_type, length.details["places"]) == (("2.4",), "float", 1)
    assert length.tags["skill"] == ("geometry reasoning", "numeric commonsense")
    assert length.tags["task"] == ("geometry problem solving",)
    assert {name: length.tags[name] for name in ("category", "context", "grade")} == {
        "category": ("general-vqa",), "context": ("bar chart",), "grade": ("high school",),
    }  # fmt: skip


def test_pictures_may_be_paths():
    record = RECORDS[0] | {"decoded_image": None}
    assert items_of(BENCHMARK, [record])[0].images == ("images/1.jpg",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "pink"}, "one of the choices"), ({"answer_type": "word"}, "answer_type"),
        ({"choices": None}, "answer_type"), ({"answer_type": "float", "choices": None}, "a number"),
        ({"query": None}, "field 'query'"),
    ],
)  # fmt: skip
def test_records_that_cannot_be_marked_are_refused(change, message):
    with pytest.raises(BadRecord, match=message):
        items_of(BENCHMARK, [RECORDS[0] | change])


def test_the_precision_decides(grader):
    item = replace(items_of(BENCHMARK, RECORDS)[2], details={"places": 0})
    assert [mark.is_right for mark in BENCHMARK.mark([(item, "2.44"), (item, "1.9"), (item, "2.5")], grader)] == [
        True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "reply", "is_right"),
    [(0, "C", True), (0, "B", False), (0, "NONE", False), (0, "no idea", None), (1, "7", True), (2, "2.5", False)],
)
def test_the_judge_extracts_and_rules_mark(number, reply, is_right):
    item = items_of(BENCHMARK, RECORDS)[number]
    task = BENCHMARK.judge(item, "some long text")
    assert item.details["question"] in task.user
    assert "some long text" in task.user
    mark = task.read(reply)
    assert (mark and mark.is_right) is is_right

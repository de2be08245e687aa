import json

import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmarks.mathvision import BENCHMARK
from tests.evaluation.golden_case import FIXTURES, disagreements, items_of, records_of

RECORDS = records_of("mathvision")


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_rules_decide_everything(grader):
    items = items_of(BENCHMARK, RECORDS)
    marks = BENCHMARK.mark([(item, text) for item in items for text in ("hm", "?!", r"\boxed{", "A or B")], grader)
    assert {mark.is_right for mark in marks} == {False}
    assert BENCHMARK.judge is None


def test_items_hold_what_is_asked():
    counts, letters, free, *_ = items_of(BENCHMARK, RECORDS)
    assert counts.prompt.startswith("<image>\n")
    assert counts.prompt.endswith("<image1>\n(A) 12\n(B) 15\n(C) 18\n(D) 21\n(E) 24")
    assert letters.prompt.endswith("cube? <image1>")
    assert letters.options == tuple("ABCDE")
    assert "letter" not in free.prompt
    assert all(item.prompt.count("<image>") == len(item.images) == 1 for item in (counts, letters, free))
    assert counts.tags == {"subject": ("counting",), "level": ("1",)}


def test_pictures_may_be_paths():
    records = [json.loads(line) for line in (FIXTURES / "mathvision.jsonl").open()]
    assert [item.images for item in items_of(BENCHMARK, records)] == [(f"images/{n}.jpg",) for n in (1, 2, 3)]


def test_golds_that_are_no_option_are_refused():
    with pytest.raises(BadRecord, match="letters ABCDE"):
        items_of(BENCHMARK, [RECORDS[0] | {"answer": "18"}])

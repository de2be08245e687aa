import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmarks.emma import BENCHMARK
from tests.evaluation.golden_case import disagreements, items_of, records_of

RECORDS = records_of("emma")


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_items_hold_what_is_asked():
    cubes, squares, arrows, code, rings, _ = items_of(BENCHMARK, RECORDS)
    assert cubes.prompt.startswith("How many cubes are in <image>?\nA: 3\nB: 5\nC: 7\nD: 9\nE: 11\n")
    assert (cubes.id, cubes.gold) == ("math_1", ("C",))
    assert (squares.gold, squares.options) == (("12",), ())
    assert arrows.prompt.startswith("A charge moves in a field.\nWhich arrow shows the force in <image>?\nA: <image>\n")
    assert list(arrows.images) == [RECORDS[2][f"image_{place}"]["bytes"] for place in (1, 2, 3)]
    assert code.tags == {
        "subject": ("Coding",), "type": ("Multiple Choice",), "category": ("Coding: Pie",),
        "task": ("Coding: Code Choose Vis",),
    }  # fmt: skip
    assert rings.prompt.startswith("How many rings")  # "none" is no context


def test_subjects_are_parts_and_splits():
    assert {item.tags["subject"] for item in items_of(BENCHMARK, RECORDS, "Physics")} == {("Physics",)}
    assert BENCHMARK.reads is not None
    assert BENCHMARK.reads("Math", "test", "test")
    assert BENCHMARK.reads("Math", "test", "Math")
    assert not BENCHMARK.reads("Math", "test", "Coding")


def test_a_letter_without_an_option_is_refused():
    with pytest.raises(BadRecord, match="one of 5 options, got 'F'"):
        items_of(BENCHMARK, [RECORDS[0] | {"answer": "F"}])

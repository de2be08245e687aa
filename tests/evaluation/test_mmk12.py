import json

import pytest

from srpo_fast.evaluation.benchmarks.mmk12 import BENCHMARK
from tests.evaluation.golden_case import FIXTURES, disagreements, items_of, records_of

RECORDS = records_of("mmk12")


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_items_hold_what_is_asked():
    forces, angle, *_, curves, statements = items_of(BENCHMARK, RECORDS)
    assert forces.prompt.startswith("<image>\nAs shown in the figure, a block is pulled.")
    assert (forces.gold, forces.options, forces.tags) == (
        ("C",), ("2 N", "4 N", "6 N", "8 N"), {"subject": ("physics",)},
    )  # fmt: skip
    assert angle.options == (r"$$30^\circ$$", r"$$45^\circ$$", r"$$60^\circ$$")
    assert curves.options == ("A", "B", "C", "D")  # they are in the picture
    assert statements.gold == ("A", "B", "D")


def test_the_subject_is_in_a_field_or_in_the_id():
    assert items_of(BENCHMARK, [RECORDS[2] | {"id": "1b87-9801"}])[0].tags["subject"] == ("chemistry",)
    record = {name: value for name, value in RECORDS[2].items() if name != "subject"}
    assert items_of(BENCHMARK, [record])[0].tags["subject"] == ("chemistry",)


def test_the_older_file_has_free_answers_and_no_subjects():
    records = json.loads((FIXTURES / "k12.json").read_text())
    angle, part = items_of(BENCHMARK, records)
    assert (angle.gold, angle.options, angle.tags["subject"]) == ((r"$$35^{\circ}$$",), (), ())
    assert part.images == ("images/2.png",)


@pytest.mark.parametrize(
    ("reply", "is_right"), [("Yes", True), ("no", False), ("1", True), ("I think so", None), ("", None)]
)
def test_the_judge_says_yes_or_no(reply, is_right):
    forces, *_, statements = items_of(BENCHMARK, RECORDS)
    assert BENCHMARK.judge is not None
    task = BENCHMARK.judge(forces, "B or C")
    assert "C. 6 N" in task.user
    assert "B or C" in task.user
    assert "A. one\nB. two\nD. four" in BENCHMARK.judge(statements, "all").user
    mark = task.read(reply)
    assert (mark and mark.is_right) is is_right

import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmarks.mmmu import BENCHMARK, SUBJECTS, holds, key_parts
from tests.evaluation.golden_case import disagreements, items_of, records_of

RECORDS = records_of("mmmu")


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_items_hold_what_is_asked():
    biology, _, design, accounting, *_, electronics = items_of(BENCHMARK, RECORDS)
    assert biology.prompt.startswith("What process does <image> show?\nA. photosynthesis\nB. cell division\n")
    assert biology.tags == {"discipline": ("Science",), "subject": ("Biology",), "difficulty": ("Easy",)}
    assert design.prompt.startswith("Which of them continues <image>?\nA. <image>\nB. <image>\n")
    pictures = [RECORDS[2][f"image_{place}"]["bytes"] for place in (1, 2, 3)]
    assert list(design.images) == pictures
    assert design.tags["discipline"] == ("Art and Design",)
    assert (accounting.gold, accounting.options, accounting.answer_type) == (("24",), (), "open")
    assert electronics.details["accepted"] == ("24/7", "3.429")


def test_subjects_of_two_words_are_found_in_ids():
    names = {item.tags["subject"] for item in items_of(BENCHMARK, RECORDS)}
    assert ("Clinical_Medicine",) in names
    assert len(SUBJECTS) == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "?"}, "validation or dev split"), ({"id": "validation_Cooking_1"}, "an id like"),
        ({"answer": "E"}, "one of 4 options"),
    ],
)  # fmt: skip
def test_records_that_cannot_be_marked_are_refused(change, message):
    with pytest.raises(BadRecord, match=message):
        items_of(BENCHMARK, [RECORDS[0] | change])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("24.", ("24",)), ("The answer is 24", ("24",)), ("x = 24", ("24",)), ("x = 10\ny = 24", ("24",)),
        ("So the sum is 24 = 4 * 6", ("4 * 6",)), ("The first is A.\nThus B", ("a.", "b")), ("Is it?", ("it?",)),
        ("A or B", ("a or b",)), ("The answer is:\n24", ("is: 24",)),
    ],
)  # fmt: skip
def test_key_parts_are_the_ends_behind_indicators(text, parts):
    assert key_parts(text) == parts


@pytest.mark.parametrize(
    ("part", "gold", "is_held"),
    [
        ("24 apples", "24", True), ("240", "24", False), ("1,234.5", "1234.5", True), ("2.4e1", "24", True),
        ("a red apple", "Apple", True), ("an ape", "apple", False), ("x", "x", True), ("max", "x", False),
        ("max x", "x", True), ("-24", "24", False), ("0.333", "0.33", True), ("1e400", "24", False),
    ],
)  # fmt: skip
def test_parts_hold_numbers_or_words(part, gold, is_held):
    assert holds([part], gold) is is_held

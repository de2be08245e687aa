import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmarks.mmmu_pro import BENCHMARK, VISION
from tests.evaluation.golden_case import disagreements, items_of, records_of

RECORDS = records_of("mmmu_pro")


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_what_names_no_option_is_wrong_every_time():
    item = items_of(BENCHMARK, RECORDS)[0]
    assert {mark.is_right for mark in BENCHMARK.mark([(item, "no idea")] * 50, None)} == {False}


def test_every_mark_gets_its_picture_in_order_of_use():
    painter, row, finance, *_ = items_of(BENCHMARK, RECORDS)
    pictures = [[record[f"image_{place}"] for place in range(1, 4)] for record in RECORDS]
    assert painter.images == (pictures[0][0]["bytes"],)
    assert row.images == tuple(pictures[1][place]["bytes"] for place in (0, 1, 2, 1))
    assert "row <image>?\nA. <image>\nB. <image>\nC. <image> turned\n" in row.prompt
    assert finance.images == tuple(pictures[2][place]["bytes"] for place in (0, 0, 1))
    assert all(item.prompt.count("<image>") == len(item.images) for item in (painter, row, finance))


def test_options_are_read_from_a_written_list():
    painter, *_ = items_of(BENCHMARK, RECORDS)
    assert len(painter.options) == 10
    assert "D. C\u00e9zanne\n" in painter.prompt
    assert "'Answer: $LETTER'" in painter.prompt
    assert painter.tags == {"subject": ("Art_Theory",)}


def test_in_the_vision_split_the_picture_holds_the_question():
    finance, molecule = items_of(BENCHMARK, records_of("mmmu_pro_vision"), VISION)
    assert finance.prompt.startswith("<image>\n")
    assert "$50" not in finance.prompt
    assert (finance.gold, finance.options[9]) == (("J",), "$50")
    assert [mark.is_right for mark in BENCHMARK.mark([(molecule, "Answer: A"), (molecule, "RNA")], None)] == [
        True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [({"image_1": None}, "image_1"), ({"answer": "K"}, "10 options"), ({"options": "none"}, "a list")],
)
def test_records_that_cannot_be_asked_are_refused(change, message):
    with pytest.raises(BadRecord, match=message):
        items_of(BENCHMARK, [RECORDS[0] | change])

import pytest

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmarks.mathverse import BENCHMARK, TEXT_ONLY
from tests.evaluation.golden_case import disagreements, items_of, records_of

RECORDS = records_of("mathverse")


def test_golden_answers_are_marked_as_by_hand(grader):
    assert disagreements(BENCHMARK, grader) == []


def test_items_hold_what_is_asked():
    words, picture, free, *_ = items_of(BENCHMARK, RECORDS)
    assert words.prompt.startswith("<image>\nReason first")
    assert "Choices:\nA:30" in words.prompt
    assert words.tags == {"version": ("Text Dominant",), "subject": ("Plane Geometry",), "subfield": ("Angle",)}
    assert "Choices" not in picture.prompt
    assert (picture.gold, picture.options, picture.details) == (words.gold, words.options, words.details)
    assert len(picture.images) == 1
    assert (free.gold, free.options) == (("(-2,1]",), ())


def test_text_only_has_no_picture():
    record = RECORDS[0] | {"image": "", "problem_version": "Text Only"}
    (item,) = items_of(BENCHMARK, [record], TEXT_ONLY)
    assert item.images == ()
    assert "<image>" not in item.prompt
    assert items_of(BENCHMARK, [record]) == []  # of the other split
    assert items_of(BENCHMARK, RECORDS, TEXT_ONLY) == []
    with pytest.raises(BadRecord, match="picture"):
        items_of(BENCHMARK, [record | {"problem_version": "Vision Only"}])


def test_options_that_cannot_be_read_still_have_letters(grader):
    (item,) = items_of(BENCHMARK, [RECORDS[0] | {"question_for_eval": "See the picture."}])
    marks = BENCHMARK.mark([(item, "C"), (item, "Answer: B"), (item, "60")], grader)
    assert [mark.is_right for mark in marks] == [True, False, None]


@pytest.mark.parametrize(("change", "message"), [({"answer": "60"}, "letters"), ({"question_type": "x"}, "free-form")])
def test_records_that_cannot_be_marked_are_refused(change, message):
    with pytest.raises(BadRecord, match=message):
        items_of(BENCHMARK, [RECORDS[0] | change])


def test_the_judge_sees_the_question_even_of_vision_only():
    item = items_of(BENCHMARK, RECORDS)[1]
    task = BENCHMARK.judge(item, "sixty")
    assert all(part in task.user for part in ("In triangle ABC", "A:30", "\nC\n", "sixty"))
    assert task.read("1").is_right is True
    assert task.read("0").is_right is False

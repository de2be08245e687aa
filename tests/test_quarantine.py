import json
from pathlib import Path

import pytest

from srpo_fast.bad_record import Problem
from srpo_fast.batch import Question
from srpo_fast.quarantine import Quarantine

QUESTIONS = [Question(id=f"q-{i}", text="?", images=(), answer="1") for i in range(40)]


def problem(i: int, reason: str = "image_missing") -> Problem:
    return Problem(id=f"q-{i}", place=f"line {i}", reason=reason, message=f"image {i}.png: none")


def lines(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_question_is_written_once_also_after_a_resume(tmp_path):
    file = tmp_path / "quarantine.jsonl"
    quarantine = Quarantine(file, "quarantine", 0.5)
    quarantine.add(QUESTIONS, [problem(1)])
    quarantine.add(QUESTIONS, [problem(1), problem(2)])
    assert len(quarantine) == 2
    resumed = Quarantine(file, "quarantine", 0.5)
    assert len(resumed) == 0  # counts what this start has met
    resumed.add(QUESTIONS, [problem(2), problem(3)])
    assert [line["id"] for line in lines(file)] == ["q-1", "q-2", "q-3"]
    assert lines(file)[0] == {
        "data": "embedded",
        "id": "q-1",
        "place": "line 1",
        "reason": "image_missing",
        "message": "image 1.png: none",
    }


def test_two_problems_of_one_name_are_two(tmp_path):
    quarantine = Quarantine(tmp_path / "q.jsonl", "quarantine", 0.5)
    other = Problem(id="q-1", place="line 9", reason="bad_answer", message="none")
    quarantine.add(QUESTIONS, [problem(1), other])
    assert len(quarantine) == len(lines(tmp_path / "q.jsonl")) == 2


def test_a_line_cut_by_a_crash_is_written_again(tmp_path):
    file = tmp_path / "quarantine.jsonl"
    Quarantine(file, "quarantine", 0.5).add(QUESTIONS, [problem(1), problem(2)])
    file.write_bytes(file.read_bytes()[:-10])
    Quarantine(file, "quarantine", 0.5).add(QUESTIONS, [problem(2)])
    assert [line["id"] for line in lines(file)] == ["q-1", "q-2"]


def test_other_ranks_write_nothing(tmp_path):
    Quarantine(None, "quarantine", 0.5).add(QUESTIONS, [problem(1)])
    assert list(tmp_path.iterdir()) == []


def test_too_many_end_the_run_with_their_reasons(tmp_path):
    notes: list[str] = []
    quarantine = Quarantine(tmp_path / "q.jsonl", "quarantine", 0.05, notes.append)
    quarantine.add(QUESTIONS, [problem(1), problem(2)])  # 5 % is allowed
    assert notes == ["embedded: 2 of 40 questions left out (2 image_missing)"]
    with pytest.raises(ValueError, match=r"(?s)3 of 40 .*2 image_missing, 1 bad_answer.*max_bad_share=0\.05.*line 3:"):
        quarantine.add(QUESTIONS, [problem(3, "bad_answer")])
    assert len(lines(tmp_path / "q.jsonl")) == 3


def test_the_message_stays_readable():
    with pytest.raises(ValueError, match=r"(?s)30 of 40.*and 10 more$") as caught:
        Quarantine(None, "quarantine", 0.05).add(QUESTIONS, map(problem, range(30)))
    assert len(str(caught.value).splitlines()) == 22


def test_stop_stops_at_the_first():
    with pytest.raises(ValueError, match=r"embedded has records that cannot be used:\n  line 1: image 1\.png"):
        Quarantine(None, "stop", 1.0).add(QUESTIONS, [problem(1)])

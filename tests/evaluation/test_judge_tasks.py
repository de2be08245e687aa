import pytest

from srpo_fast.evaluation.benchmark import Mark
from srpo_fast.evaluation.judge_tasks import extraction_task, verdict_task


def test_questions_hold_what_the_judge_needs():
    task = verdict_task(question="2 + 2?", gold="4", answer="five")
    assert all(part in task.user for part in ("2 + 2?", "4", "five"))
    task = extraction_task(question="2 + 2?", answer="five", form="a whole number", mark=lambda said: None)
    assert all(part in task.user for part in ("2 + 2?", "five", "a whole number"))


@pytest.mark.parametrize(
    ("reply", "is_right"),
    [
        ("1", True), (" 1.\n", True), ("Judgement: 1", True), ("yes", True), ("0", False), ("Verdict: **0**", False),
        ("Incorrect", False), ("10", None), ("1 or 0", None), ("I cannot tell", None), ("", None),
    ],
)  # fmt: skip
def test_verdicts_are_read_or_refused(reply, is_right):
    mark = verdict_task(question="", gold="", answer="").read(reply)
    assert (mark and mark.is_right) is is_right


@pytest.mark.parametrize(
    ("reply", "is_right"),
    [("B", True), ("Answer: B", True), ("C", False), ("NONE", False), ("null.", False), ("", None), ("hm", None)],
)
def test_extractions_are_marked(reply, is_right):
    def mark(said: str) -> Mark:
        return Mark(is_right={"B": True, "C": False}.get(said), extracted=said, rule="letter")

    found = extraction_task(question="", answer="", form="a letter", mark=mark).read(reply)
    assert (found and found.is_right) is is_right

"""What is on disk after a process died, and who may go on from there."""

import json
import os
import subprocess
import sys

import pytest

from srpo_fast.config import UserError
from srpo_fast.reflection.directory import ANSWERS, REFLECTIONS, ReflectionDirectory
from srpo_fast.reflection.journal import Journal
from srpo_fast.reflection.records import Judgement, Reflection, Rejection
from srpo_fast.writer_lock import WriterLock

SETTINGS = {ANSWERS: {"model": "m", "temperature": 0.2}, REFLECTIONS: {"teacher": "t"}}


def judgement(name: str, quality: int = 3) -> Judgement:
    return Judgement(id=name, quality=quality, comment="so-so", prompt_tokens=5, completion_tokens=2)


def reflection(name: str) -> Reflection:
    return Reflection(id=name, text="hm \u2028 \u00e4", reasoning=None, prompt_tokens=1, completion_tokens=1)


def test_results_are_in_the_file_as_soon_as_they_are_written(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", Judgement)
    journal.write(judgement("a"))
    assert json.loads((tmp_path / "j.jsonl").read_text())["id"] == "a"  # nothing was closed or flushed by us
    journal.write(judgement("b"))
    journal.close()
    again = Journal(tmp_path / "j.jsonl", Judgement)
    assert list(again) == ["a", "b"]
    assert again["b"] == judgement("b")


@pytest.mark.parametrize("torn", ['{"id": "c", "qual', '{"id": "c"', "\u00e4"[:1], '{"id": "c", "quality": 1}'])
def test_a_torn_last_line_is_cut_off_and_its_result_written_again(tmp_path, torn):
    path = tmp_path / "j.jsonl"
    journal = Journal(path, Judgement)
    journal.write(judgement("a"))
    journal.close()
    with path.open("a") as file:
        file.write(torn)
    journal = Journal(path, Judgement)
    assert list(journal) == ["a"]
    journal.write(judgement("c"))
    journal.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "c"]


def test_odd_characters_survive(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", Reflection)
    journal.write(reflection("a"))
    journal.close()
    assert Journal(tmp_path / "j.jsonl", Reflection)["a"] == reflection("a")


def test_an_id_twice_or_a_line_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path, Judgement)
    journal.write(judgement("a"))
    journal.close()
    path.write_text(path.read_text() * 2)
    with pytest.raises(UserError, match="every id once, got a again"):
        Journal(path, Judgement)
    with pytest.raises(UserError, match=r"expected lines with .*reasoning.*choose another directory"):
        Journal(path, Reflection)


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path):
    first = ReflectionDirectory(tmp_path, SETTINGS)
    with pytest.raises(UserError, match=rf"is being written by process {os.getpid()}"):
        ReflectionDirectory(tmp_path, SETTINGS)
    first.close()
    ReflectionDirectory(tmp_path, SETTINGS).close()


def test_a_writer_that_died_leaves_no_lock(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from srpo_fast.writer_lock import WriterLock\n"
        "lock = WriterLock(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")]).returncode == -9
    WriterLock(tmp_path / "lock").release()


def test_results_of_other_settings_are_refused_and_the_change_is_named(tmp_path):
    directory = ReflectionDirectory(tmp_path, SETTINGS)
    directory.keep(reflection("a"))
    directory.close()
    # nothing has been answered yet, so answers may still come of other settings
    other_model = SETTINGS | {ANSWERS: {"model": "n", "temperature": 0.2}}
    ReflectionDirectory(tmp_path, other_model).close()
    other_teacher = other_model | {REFLECTIONS: {"teacher": "u"}}
    for _ in range(2):  # the refusal changes nothing
        with pytest.raises(
            UserError, match=r"reflections\.jsonl holds results of other settings: teacher='t', now teac"
        ) as e:
            ReflectionDirectory(tmp_path, other_teacher)
        assert "model" not in str(e.value)
        assert "choose another directory" in str(e.value)
    ReflectionDirectory(tmp_path, other_model).close()


def test_only_final_rejections_outlive_the_process(tmp_path):
    directory = ReflectionDirectory(tmp_path, SETTINGS)
    failed = Rejection(id="a", step="judge", reason="timeout", detail="it took too long")
    ours = Rejection(id="b", step="judge", reason="low_quality", detail="2 of 5", is_final=False)
    for rejection in (failed, ours, ours):  # the first reason stays
        directory.keep(rejection)
    assert list(directory.rejected) == ["a", "b"]
    directory.close()
    again = ReflectionDirectory(tmp_path, SETTINGS)
    assert dict(again.rejected) == {"a": failed}

"""A whole evaluation: what is written, hostile input, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from srpo_fast.config import UserError
from srpo_fast.evaluation.directory import read_results
from srpo_fast.writer_lock import WriterLock
from tests.chat_server import serve
from tests.evaluation.eval_case import evaluate, one, two
from tests.evaluation.evaluate_toy import RESPONSES, judge
from tests.launch import ROOT
from tests.waiting import wait_until

ODD = {
    "empty": "", "blank": " \n ", "long": "x " * 50_000 + "right", "foreign": "答案是 right", "half": "\ud83d right",
    "tags": "<answer>" * 1000, "nul": "\x00 right",
}  # fmt: skip


def test_any_text_is_a_scored_item(tmp_path):
    results = evaluate(tmp_path, ODD)
    verdicts = {each["id"]: (each["last"]["verdict"], each["last"]["rule"]) for each in results["items"]}
    assert verdicts["empty"] == verdicts["blank"] == ("wrong", "no answer")
    assert {verdicts[name] for name in ("long", "foreign", "half", "nul")} == {("right", "last word")}
    assert verdicts["tags"] == ("wrong", "last word")
    assert read_results(tmp_path / "out") == json.loads(json.dumps(results))


def test_results_say_what_was_asked_said_and_done_with_it(tmp_path):
    results = evaluate(tmp_path, {"7": two("wrong", "right")})
    assert results["items"] == [
        {
            "id": "7", "prompt": "say it", "gold": ["right"], "tags": {"kind": []}, "response": two("wrong", "right"),
            "is_finished": None, "tokens": None, "answers": 2,
            "first": {"verdict": "wrong", "extracted": "wrong", "rule": "last word"},
            "last": {"verdict": "right", "extracted": "right", "rule": "last word"},
        }
    ]  # fmt: skip
    assert results["settings"]["protocol"] == "reflective"
    assert {"python", "srpo-fast", "torch"} <= results["versions"].keys()
    assert results["seconds"].keys() == {"data", "responses", "marking"}


def test_a_killed_evaluation_goes_on_and_comes_to_the_same(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    with serve(replies={"is ?1": "yes", "is ?2": "no", "is ?": "yes"}) as server:
        expected = evaluate(whole, RESPONSES, judge(server.base_url))
        asked = len({record.key for record in server.records})
        command = [sys.executable, "-m", "tests.evaluation.evaluate_toy", str(cut), server.base_url]
        journal = cut / "out" / "judge.jsonl"
        server.answer_until(lambda: num_lines(journal) >= 5)
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert wait_until(lambda: num_lines(journal) >= 5 or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        server.answer_until(lambda: False)
        kept = num_lines(journal)
        assert 5 <= kept < len(RESPONSES)
        with journal.open("ab") as file:
            file.write(b'{"id": "torn')
        before = len(server.records)
        results = evaluate(cut, RESPONSES, judge(server.base_url))
        # one that was on its way when the process died may arrive late, and is asked again
        assert len({record.key for record in server.records[before:]}) == asked - kept
    assert without_seconds(whole, expected) == without_seconds(cut, results).replace(str(cut), str(whole))
    tables = [(folder / "out" / "table.md").read_text().replace(str(folder), "") for folder in (whole, cut)]
    assert tables[0] == tables[1]


def num_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def without_seconds(folder: Path, results: dict) -> str:
    text = (folder / "out" / "results.json").read_text()
    seconds = json.dumps(results["seconds"], indent=1).replace("\n", "\n ")
    assert seconds in text
    return text.replace(seconds, "")


def test_one_process_writes_at_a_time(tmp_path):
    (tmp_path / "out").mkdir()
    lock = WriterLock(tmp_path / "out" / "lock")
    with pytest.raises(UserError, match="being written by process"):
        evaluate(tmp_path, {"a": one("right")})
    lock.release()
    evaluate(tmp_path, {"a": one("right")})


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="choose another --out"):
        evaluate(tmp_path, {"a": one("right")})


@pytest.mark.parametrize("content", [None, "{", "[]", '{"items": []}'])
def test_what_is_no_evaluation_is_not_compared(tmp_path, content):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match="srpo eval"):
        read_results(tmp_path)

"""`srpo reward`, from a file to what it prints."""

import json
import math
from functools import partial
from pathlib import Path

import pytest

from srpo_fast.cli import main
from srpo_fast.config import DEFAULT_CONFIG, RewardConfig
from srpo_fast.rewards import scored_file

RIGHT = r"<think>a b c d e f g</think><answer>$\boxed{2}$</answer>"
WRONG = RIGHT.replace("2", "3")
# eight words in the first response; fourteen in all, where a tag without spaces around it makes no word of its own
COMPLETION = WRONG + "<reflection>it was</reflection>" + RIGHT
LINES = [
    {"completion": COMPLETION, "answer": "2", "id": "q-1", "model": "ours"},
    {"completion": COMPLETION, "answer": 3, "id": 7},
    {"completion": "<think>2\u2028", "answer": ""},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sampled.jsonl"
    lines = [json.dumps(line, ensure_ascii=False) for line in LINES]
    path.write_text("\ufeff" + lines[0] + "\n\n" + "\n".join(lines[1:]) + "\n", encoding="utf-8")
    return path


def scores(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict]:
    assert main(["reward", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["reward", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_json_has_an_object_for_every_line(path, capsys):
    first, second, third = scores(capsys, path)
    length = 0.1 * math.exp(-(((14 / 8 - 2) / 0.5) ** 2))
    assert first == {
        "id": "q-1",
        "total": pytest.approx(1.25 + length),
        "parts": {
            "format": 0.5,
            "accuracy": 0.0,
            "effectiveness": 0.5,
            "reflection_format": 0.25,
            "length": pytest.approx(length),
        },
        "first_correct": False,
        "second_correct": True,
        "reasons": ["first_wrong"],
    }
    assert (second["id"], second["parts"]["effectiveness"]) == (7, -0.25)
    assert (third["id"], third["total"]) == ("sampled-4", 0.0)
    assert "unclosed_think" in third["reasons"]


@pytest.mark.parametrize(("variant", "total"), [("openrlhf", 1.5), ("two_step", 0.5), ("grpo", 0.0)])
def test_the_variant_is_chosen_by_name(path, capsys, variant, total):
    first = scores(capsys, path, "--variant", variant)[0]
    assert first["total"] - first["parts"]["length"] == pytest.approx(total)


def test_the_variant_may_be_a_function_in_a_file(path, capsys, tmp_path):
    (tmp_path / "mine.py").write_text("def pays(completion, answer):\n    return len(answer)\n")
    assert [line["total"] for line in scores(capsys, path, "--variant", f"{tmp_path}/mine.py:pays")] == [1.0, 1.0, 0.0]
    assert "expected a function more" in refusal(capsys, path, "--variant", f"{tmp_path}/mine.py:more")


def test_a_question_says_what_its_letters_stand_for(capsys, tmp_path):
    path = tmp_path / "choices.jsonl"
    line = {"completion": RIGHT.replace("{2}", "{12 cm}"), "answer": "B", "question": "Which?\nA. 10 cm\nB. 12 cm"}
    path.write_text("\n".join(json.dumps(line | change) for change in ({}, {"answer": "A"}, {"question": ""})))
    assert [line["first_correct"] for line in scores(capsys, path)] == [True, False, False]


def test_a_check_that_hangs_or_crashes_is_a_reason_of_its_line_only(checked, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(scored_file, "RewardConfig", partial(RewardConfig, time_limit=1.0))  # patience is no subject
    lines = [
        {"id": value, "completion": RIGHT.replace("{2}", f"{{{value}}}"), "answer": "2x"}
        for value in ("x+x", "x^2+91", "x^2+92", "x^2+1", "2x")
    ]
    path = tmp_path / "faulty.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    scored = scores(capsys, path, "--variant", "grpo")
    assert [line["id"] for line in scored] == [line["id"] for line in lines]
    assert [line["total"] for line in scored] == [1.0, 0.5, 0.5, 0.5, 1.0]
    reasons = [[], ["grading_timeout"], ["grading_crash"], ["first_wrong"], []]
    assert [line["reasons"] for line in scored] == reasons


def test_a_tokenizer_counts_in_place_of_words(path, capsys, untrained_model):
    by_words, by_tokens = scores(capsys, path), scores(capsys, path, "--tokenizer", untrained_model)
    assert by_words[0]["parts"]["length"] != by_tokens[0]["parts"]["length"]
    assert by_words[0]["parts"]["effectiveness"] == by_tokens[0]["parts"]["effectiveness"]


def test_a_table_is_printed_for_eyes(path, capsys):
    assert main(["reward", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if "q-1" in line]
    assert row.split()[:6] == ["q-1", "1.33", "0.50", "0.00", "0.50", "0.25"]
    assert "wrong>right" in row
    assert "3 completions, mean reward" in lines[-1]


def test_ids_are_printed_as_they_are(capsys, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"completion": "", "answer": "2", "id": "[red]"}))
    assert main(["reward", str(path)]) == 0
    assert "[red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "Invalid JSON: EOF"),
        ("[1]", "should be an object, got [1]"),
        ("[" * 100_000, "recursion limit exceeded"),
        ('{"completion": "x"}', "answer Field required, got {'completion': 'x'}"),
        ('{"answer": "x"}', "completion Field required"),
        ('{"completion": 1, "answer": "x"}', "completion Input should be a valid string, got 1"),
        ('{"completion": "x", "answer": null}', "answer.str Input should be a valid string, got None"),
        ('{"completion": "x", "answer": true}', "answer.int Input should be a valid integer, got True"),
        ('{"completion": "x", "answer": "2", "id": [1]}', "id.str Input should be a valid string"),
        ('{"completion": "x", "answer": "2", "question": 1}', "question Input should be a valid string, got 1"),
    ],
)
def test_a_bad_line_is_one_error_that_names_it(capsys, tmp_path, line, says):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n" + line + "\n")
    message = refusal(capsys, path, "--json")
    assert "bad.jsonl, line 2: expected a JSON object with completion and answer, but: " in message
    assert says in message


def test_other_mistakes_are_one_error_too(path, capsys, tmp_path):
    assert "found none" in refusal(capsys, tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "holds no completions" in refusal(capsys, tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"completion": "\xe9"}')
    assert "invalid unicode" in refusal(capsys, tmp_path / "latin.jsonl")
    assert "expected paper, openrlhf, two_step, grpo or file.py:function" in refusal(capsys, path, "--variant", "papr")
    assert "a directory with a tokenizer" in refusal(capsys, path, "--tokenizer", "Qwen/Qwen2.5-VL-7B-Instruct")
    assert "a readable tokenizer" in refusal(capsys, path, "--tokenizer", tmp_path)


def test_validate_finds_that_a_reward_function_is_missing(capsys, tmp_path):
    variant = f"reward.variant={tmp_path}/nowhere.py:pays"
    assert main(["validate", str(DEFAULT_CONFIG), variant]) == 2
    assert "expected a Python file with the reward function pays" in capsys.readouterr().err

"""`srpo eval`: its options, its errors, and what it prints."""

import json
import subprocess
import sys

import pytest

from srpo_fast import cli
from srpo_fast.embedded.task import load_questions
from tests.evaluation.eval_case import one, two, write_lines

QUESTIONS = load_questions("heldout", 12, 0)


@pytest.fixture
def responses(tmp_path):
    """Half of the first answers are right, all of the last."""
    said = [two("99" if n % 2 else q.answer, f"$\\boxed{{{q.answer}}}$") for n, q in enumerate(QUESTIONS)]
    return write_lines(
        tmp_path / "r.jsonl", *({"id": q.id, "response": s} for q, s in zip(QUESTIONS, said, strict=True))
    )


def test_saved_responses_are_marked_and_json_is_the_last_line(responses, tmp_path, capsys):
    options = ["--benchmark", "embedded", "--responses", str(responses), "--limit", "12", "--out", str(tmp_path / "o")]
    assert cli.main(["eval", *options, "--json"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    totals = document["totals"]
    assert (totals["first"]["right"], totals["last"]["right"]) == (6, 12)
    assert "items" not in document
    assert cli.main(["eval", *options, "--protocol", "published"]) == 0
    said = capsys.readouterr().out
    assert "| **this run, first answer** | 50.0 |" in said
    assert said.endswith(f"{tmp_path / 'o'}/results.json\n")
    assert cli.main(["eval", "--compare", str(tmp_path / "o"), str(tmp_path / "o")]) == 0
    assert "# Embedded task, heldout" in capsys.readouterr().out


def test_an_answer_without_its_block_is_wrong_in_the_embedded_task_as_in_a_run(tmp_path, capsys):
    said = [{"id": q.id, "response": f"<think>x</think><answer>$\\boxed{{{q.answer}}}$"} for q in QUESTIONS[:2]]
    said += [{"id": q.id, "response": one(q.answer)} for q in QUESTIONS[2:]]
    path, out = write_lines(tmp_path / "r.jsonl", *said), str(tmp_path / "o")
    options = ["--benchmark", "embedded", "--responses", str(path), "--limit", "12", "--out", out, "--json"]
    assert cli.main(["eval", *options]) == 0
    totals = json.loads(capsys.readouterr().out.splitlines()[-1])["totals"]
    assert (totals["last"]["right"], totals["second"]["right"]) == (10, 0)
    assert totals["responses"] == {"missing": 0, "without_blocks": 2, "one_answer": 10, "two_answers": 0}


B, R = ["--benchmark", "embedded"], ["--responses", "RESPONSES"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (B, "expected either --model DIR or --responses F"),
        ([*B, *R, "--model", "x"], "got none or both"),
        (R, "expected --benchmark, one of mathvista, mathverse"),
        (["--benchmark", "imagenet", *R], "expected a benchmark, mathvista"),
        (["--benchmark", "embedded,mmmu", "--model", "x"], "not for embedded"),
        (["--benchmark", "mmmu,emma", *R], "several benchmarks at once are for --model"),
        ([*B, *R, "--split", "train"], "has the splits heldout, validation, got 'train'"),
        ([*B, *R, "--limit", "0"], "--limit: expected a number from 1, got 0"),
        ([*B, *R, "--judge-reflections", "-1"], "--judge-reflections: expected a number from 0, got -1"),
        ([*B, *R, "--config", "none.yaml"], "none.yaml does not exist"),
        ([*B, "--responses", "none.jsonl"], "expected a file of responses at none.jsonl"),
        ([*B, "--model", "no/where"], "no config.json in no/where"),
        ([*B, *R, "--judge-reflections", "3"], "the --judge options need --judge-model"),
        ([*B, *R, "--judge-model", "m", "--judge-option", "speed"], "--judge-option: expected key=value, got speed"),
        ([*B, *R, "--judge-model", "m", "--judge-option", "retrys=2"], "unknown key retrys"),
        ([*B, *R, "--judge-model", "m", "--judge-dollars", "2"], "--judge-dollars needs --judge-option price_per"),
        ([*B, *R, "--judge-model", "m", "--judge-key-env", "NO_KEY_HERE"], "NO_KEY_HERE"),
        (["--compare", "nowhere"], "expected a directory of `srpo eval`"),
    ],
)
def test_a_mistake_is_one_clear_line(options, says, responses, tmp_path, capsys):
    options = [str(responses) if each == "RESPONSES" else each for each in options]
    assert cli.main(["eval", "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("error: ") == 1
    assert error.startswith("error: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1


def test_a_run_directory_as_the_model_names_the_model_in_it(tmp_path, capsys):
    run = tmp_path / "run"
    (run / "hf").mkdir(parents=True)
    command = ["eval", "--benchmark", "embedded", "--model", str(run), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert capsys.readouterr().err.endswith(f"found no config.json in {run}\n")
    (run / "hf" / "config.json").touch()
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert said.endswith(f"found no config.json in {run}; it is a run directory, whose model is {run}/hf\n")
    assert said.count("\n") == 1


def test_help_imports_neither_torch_nor_a_benchmark():
    code = (
        "import sys; from srpo_fast.commands import parser; parser(); "
        "print(*sorted({'torch', 'transformers', 'openai', 'pyarrow'} & set(sys.modules)), "
        "*(name for name in sys.modules if name.startswith('srpo_fast.evaluation.benchmarks.')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""

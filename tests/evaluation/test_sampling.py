"""A model directory answers: one engine, started by the command as a user starts it."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from srpo_fast import cli
from srpo_fast.config import DEFAULT_CONFIG, UserError, load_config
from srpo_fast.evaluation.benchmarks import embedded, load_benchmark
from srpo_fast.evaluation.item_digests import digest_of
from srpo_fast.evaluation.sampling import ItemQuestion, Sampler, Unasked
from tests.evaluation.eval_case import item, read, two, write_lines
from tests.launch import run_on_ranks


@pytest.fixture(scope="module")
def evaluated(untrained_model, tmp_path_factory) -> tuple[list[str], Path, subprocess.CompletedProcess[str]]:
    """Options, directory and output of an evaluation that went on where another had ended, in the middle of a line."""
    root = tmp_path_factory.mktemp("evaluated")
    config = root / "small.yaml"
    config.write_text(DEFAULT_CONFIG.read_text().replace("kv_cache_gib: 0.25", "kv_cache_gib: 0.0625"))
    out = root / "out"
    out.mkdir()
    question = read(None, "heldout", load_benchmark("embedded"), 2)[1]
    before = {
        "id": "heldout-1", "text": two("1", "2"), "is_finished": True, "prompt_tokens": 5, "completion_tokens": 6,
        "asked": digest_of(question, root),
    }  # fmt: skip
    (out / "responses.jsonl").write_text(json.dumps(before) + '\n{"id": "heldout-2", "te')
    options = [
        "eval", "--benchmark", "embedded", "--model", str(untrained_model), "--config", str(config), "--limit", "4",
        "--max-tokens", "16", "--out", str(out),
    ]  # fmt: skip
    return options, out, run_on_ranks(1, "tests/srpo_command.py", *options, "--json")


def test_a_model_answers_what_is_left(evaluated):
    _, out, result = evaluated
    assert result.returncode == 0, result.stderr[-4000:]
    document = json.loads(result.stdout.splitlines()[-1])
    assert document["totals"]["items"] == 4
    assert document["settings"]["max_tokens"] == 16
    assert document["settings"]["system"] == "reflect"
    lines = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
    assert (lines[0]["id"], lines[0]["text"]) == ("heldout-1", two("1", "2"))
    assert {line["id"] for line in lines[1:]} == {"heldout-0", "heldout-2", "heldout-3"}
    assert all(0 < line["completion_tokens"] <= 16 for line in lines)
    items = json.loads((out / "results.json").read_text())["items"]
    assert {each["id"]: each["tokens"] for each in items} == {line["id"]: line["completion_tokens"] for line in lines}


def test_when_all_is_said_the_same_comes_out_without_an_engine(evaluated, capsys):
    options, out, _ = evaluated
    before = json.loads((out / "results.json").read_text())
    assert cli.main(options) == 0
    after = json.loads((out / "results.json").read_text())
    assert after | {"seconds": {}} == before | {"seconds": {}}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--system", "be brief"], "system='reflect', now system='be brief'"),
        (["--max-tokens", "17"], "max_tokens=16, now max_tokens=17"),
        (["--split", "validation"], "split='heldout', now split='validation'"),
    ],
)
def test_responses_of_other_settings_are_not_mixed(evaluated, capsys, changed, says):
    options, out, _ = evaluated
    said = (out / "responses.jsonl").read_bytes()
    assert cli.main([*options, *changed]) == 2
    error = capsys.readouterr().err
    assert "holds responses of other settings" in error
    assert says in error
    assert (out / "responses.jsonl").read_bytes() == said


def test_changed_data_are_not_marked_with_responses_to_the_old(evaluated, capsys, monkeypatch):
    options, out, _ = evaluated
    drawn = embedded.load_samples

    def changed(split, count, seed):
        samples = drawn(split, count, seed)
        question = replace(samples[3].question, answer="another")
        return [*samples[:3], replace(samples[3], question=question), *samples[4:]]

    monkeypatch.setattr(embedded, "load_samples", changed)
    said = (out / "responses.jsonl").read_bytes()
    assert cli.main(options) == 2
    assert "to other data: 1 of 4 items have changed" in capsys.readouterr().err
    assert (out / "responses.jsonl").read_bytes() == said


def test_too_many_items_that_cannot_be_asked_end_the_command_before_an_engine_starts(untrained_model, tmp_path, capsys):
    data = write_lines(tmp_path / "testmini.jsonl", *({
        "id": n, "question": "?", "options": [], "answer": "1", "level": 1, "subject": "s", "image": f"{n}.png",
    } for n in range(4)))  # fmt: skip
    options = ["--benchmark", "mathvision", "--model", str(untrained_model), "--data", str(data)]
    assert cli.main(["eval", *options, "--max-tokens", "16", "--out", str(tmp_path / "out")]) == 2
    assert (
        "1 of 4 items cannot be used; the first, 0: image 0.png: expected an image file at" in capsys.readouterr().err
    )


def test_other_weights_are_another_model(evaluated, untrained_model, tmp_path, capsys):
    options, _, _ = evaluated
    other = shutil.copytree(untrained_model, tmp_path / "other")
    (other / "model.safetensors").touch()
    options = [str(other) if option == str(untrained_model) else option for option in options]
    assert cli.main(options) == 2
    assert "holds responses of other settings: other files of the model;" in capsys.readouterr().err


def test_an_item_that_cannot_be_asked_says_why_and_starts_no_engine(untrained_model, tmp_path):
    sampler = Sampler(untrained_model, load_config(DEFAULT_CONFIG, []), 16)
    missing = replace(item("a"), prompt="<image>what?", images=("nowhere.png",))
    unmarked = replace(item("b"), prompt="<image>what?")
    too_long = replace(item("c"), prompt="what? " * 10_000)
    question_of = ItemQuestion(image_root=tmp_path, min_pixels=784, max_pixels=784)
    results = list(sampler.answers([missing, unmarked, too_long], question_of, "s"))
    assert all(isinstance(result, Unasked) for result in results)
    reasons = [str(result.problem) for result in results if isinstance(result, Unasked)]
    for reason, says in zip(
        reasons, ("expected an image file at", "one <image> mark", "tokens, more than"), strict=True
    ):
        assert says in reason
    sampler.close()


def test_an_answer_needs_room_in_the_models_context(untrained_model, tmp_path):
    with pytest.raises(UserError, match="2,048 tokens, which leaves no prompt beside 2,000 tokens of answer"):
        Sampler(untrained_model, load_config(DEFAULT_CONFIG, []), 2000)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="expected max_position_embeddings in"):
        Sampler(tmp_path, load_config(DEFAULT_CONFIG, []), 16)

"""The `srpo` command: what it hands on, and how it says no."""

import pytest

from srpo_fast import cli
from srpo_fast.config import DEFAULT_CONFIG

GRPO = DEFAULT_CONFIG.with_name("embedded_grpo.yaml")


@pytest.mark.parametrize(
    "arguments",
    [["--config", str(GRPO), "steps=-1"], ["steps=-1", "--config", str(GRPO)], ["--ranks", "1", "steps=-1"]],
)
def test_train_refuses_a_bad_value_before_it_starts_anything(arguments, capsys):
    assert cli.main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: steps:")
    assert error.count("\n") == 1


def test_train_hands_config_and_overrides_on(monkeypatch):
    from torch.distributed import run as torchrun

    launched = []
    monkeypatch.setattr(torchrun, "run", launched.append)
    assert cli.main(["train", "--ranks", "3", "--config", str(GRPO), "steps=1", "run.seed=2"]) == 0
    assert launched[0].nproc_per_node == "3"
    assert launched[0].training_script.endswith("srpo_fast/train.py")
    assert launched[0].training_script_args == ["--config", str(GRPO), "steps=1", "run.seed=2"]


def test_validate_counts_the_questions(capsys):
    assert cli.main(["validate", str(GRPO), "evaluation.questions=5", "evaluation.validation_questions=3"]) == 0
    said = capsys.readouterr().out
    assert "train: 16,384 questions" in said
    assert "heldout: 5 questions" in said


def test_report_of_what_is_no_run_is_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("error: ")

"""The `srpo` command: what it hands on, and how it says no."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from srpo_fast import cli, commands
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


def test_train_refuses_to_start_no_process(capsys):
    assert cli.main(["train", "--ranks", "0"]) == 2
    assert "expected --ranks of 1 or more, got 0" in capsys.readouterr().err


def test_train_hands_config_and_overrides_on(monkeypatch):
    from torch.distributed import run as torchrun

    launched = []
    monkeypatch.setattr(torchrun, "run", launched.append)
    assert cli.main(["train", "--ranks", "3", "--config", str(GRPO), "steps=1", "run.seed=2"]) == 0
    assert launched[0].nproc_per_node == "3"
    assert launched[0].training_script.endswith("srpo_fast/train.py")
    assert launched[0].training_script_args == ["--config", str(GRPO), "steps=1", "run.seed=2"]


def test_train_says_in_one_line_that_it_was_interrupted(monkeypatch, capsys):
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException

    def interrupted(options):
        raise SignalException("got signal", signal.SIGINT)

    monkeypatch.setattr(torchrun, "run", interrupted)
    assert cli.main(["train", "--config", str(GRPO)]) == 130
    assert capsys.readouterr().err == "interrupted by SIGINT; the same command goes on\n"


def test_validate_counts_the_questions(capsys):
    assert cli.main(["validate", str(GRPO), "evaluation.questions=5", "evaluation.validation_questions=3"]) == 0
    said = capsys.readouterr().out
    assert "train: 16,384 questions" in said
    assert "heldout: 5 questions" in said


def test_validate_says_what_this_machine_cannot_run(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    few = ["validate", str(GRPO), "evaluation.questions=1", "evaluation.validation_questions=1"]
    assert cli.main([*few, "rollout.kv_cache=sleeps"]) == 0
    said = capsys.readouterr().out
    assert "it cannot run on this machine: rollout.kv_cache=sleeps needs a CUDA device, got cpu" in said
    assert said.endswith(f"{GRPO} is valid\n")
    assert cli.main(few) == 0
    assert "this machine" not in capsys.readouterr().out


def test_validate_needs_no_vllm():
    code = "import sys, srpo_fast.rollout; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_validate_counts_what_cannot_be_used(tmp_path, capsys):
    lines = ['{"question": "1 + 1?", "answer": "2"}', '{"question": "1 + 1?"}']
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    arguments = ["validate", str(GRPO), f"data.train={tmp_path / 'q.jsonl'}"]
    assert cli.main(arguments) == 2
    assert "1 of 2 questions cannot be used (1 bad_answer)" in capsys.readouterr().err
    assert cli.main([*arguments, "data.max_bad_share=0.5"]) == 0
    said = capsys.readouterr().out
    assert "train: 1 questions;" in said
    assert "1 records cannot be used; `srpo data check` says why" in said
    assert cli.main([*arguments, "data.max_bad_share=0.5", "data.bad_records=stop"]) == 2
    assert "q.jsonl has records that cannot be used:\n  line 2: field answer" in capsys.readouterr().err


def test_validate_looks_at_model_and_prompts_without_loading_weights(untrained_model, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(untrained_model, model)
    for weights in model.glob("*.safetensors"):
        weights.unlink()
    question = {"question": "<image>What is the sum?", "answer": "2", "image": "wide.png"}
    Image.new("RGB", (112, 28)).save(tmp_path / "wide.png")
    questions = [question, question | {"question": "one " * 100 + "<image>"}]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, questions)))
    command = ["validate", str(GRPO), f"model.path={model}", f"data.train={tmp_path / 'q.jsonl'}"]
    assert cli.main(command) == 2
    assert "1 of the first 2 prompts cannot be used" in capsys.readouterr().err
    assert cli.main([*command, "data.max_bad_share=0.5"]) == 0
    assert "1 cannot be used; the first: question q-2: the prompt has" in capsys.readouterr().out
    assert cli.main([*command, "rollout.kv_cache_gib=1.0e-6"]) == 2
    assert "holds no sequence" in capsys.readouterr().err
    document = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(document | {"image_token_id": 5}))
    assert cli.main(command) == 2
    assert "is not of its model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        (PermissionError(13, "Permission denied", "/there"), 2, "error: /there: Permission denied; check the path"),
        (OSError(21, "Is a directory", ".x.partial", None, "x"), 2, "error: x: Is a directory; check the path"),
        (ModuleNotFoundError("No module named 'vllm'"), 2, "error: No module named 'vllm'; `srpo doctor` says"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_comes_from_outside_is_one_line(raised, code, says, monkeypatch, capsys):
    def run(words):
        raise raised

    monkeypatch.setattr(commands, "run", run)
    assert cli.main(["report", "x"]) == code
    error = capsys.readouterr().err
    assert error.startswith(says)
    assert error.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(commands, "run", lambda words: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["report", "x"])


def test_a_config_that_is_no_text_is_one_line(tmp_path, capsys):
    (tmp_path / "x.yaml").write_bytes(b"\x9c\xff")
    assert cli.main(["validate", str(tmp_path / "x.yaml")]) == 2
    assert "x.yaml is not valid YAML: 'utf-8' codec can't decode" in capsys.readouterr().err


def test_report_of_what_is_no_run_is_one_line(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_validate_names_everything_that_is_not_there(capsys):
    overrides = ["model.path=/nowhere/model", "cold_start.data=/nowhere/sft.json", "reflection=null"]
    assert cli.main(["validate", str(DEFAULT_CONFIG), *overrides]) == 2
    said = capsys.readouterr().err
    assert "model.path /nowhere/model, cold_start.data /nowhere/sft.json" in said


def test_bench_becomes_the_benchmark_and_hands_its_arguments_on(monkeypatch):
    calls = []

    def execve(program, arguments, environment):
        calls.append((arguments, Path(environment["PYTHONPATH"].split(os.pathsep)[0])))
        assert program == arguments[0]
        assert not {"TORCHDYNAMO_DISABLE", "OMP_NUM_THREADS"} & environment.keys()
        raise SystemExit(3)  # it does not come back

    monkeypatch.setattr(commands.os, "execve", execve)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit, match="3"):
        cli.main(["bench", "ops", "--json", "--workload", "tiny"])
    [(arguments, folder)] = calls
    assert arguments[1:] == ["-P", "-m", "benchmarks.ops", "--json", "--workload", "tiny"]
    assert (folder / "benchmarks" / "ops" / "__main__.py").is_file()


def test_bench_outside_a_checkout_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(commands, "__file__", str(tmp_path / "srpo_fast" / "commands.py"))
    assert cli.main(["bench", "ops"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: benchmarks.ops is not installed with the package")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpu-memory-gib", "nan"], "expected --gpu-memory-gib with a number above 0, got nan"),
        (["--assume", "matmul_share=2"], "expected --assume matmul_share= with a share, at most 1, got 2"),
        (["steps=-1"], "steps"),  # an override behind options
    ],
)
def test_estimate_refuses_what_cannot_be(arguments, says, capsys):
    command = ["estimate", "configs/qwen2_5_vl_7b.yaml", "--gpus", "8", "--model-config", "7b", *arguments]
    assert cli.main(command) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("stray", ["--parallel.tp=2", "tp"])
def test_what_is_no_override_behind_options_is_not_recognized(stray, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["estimate", "configs/qwen2_5_vl_7b.yaml", "--gpus", "8", stray])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: unrecognized arguments: {stray}; `srpo --help` says")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["estimate", "F.yaml"], "error: the following arguments are required: --gpus; `srpo estimate --help` says"),
        (["data", "check"], "error: the following arguments are required: "),
        (["doctor", "--dtype", "int8"], "error: argument --dtype: invalid choice: 'int8' "),
        (["trian"], "error: argument command: invalid choice: 'trian' "),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(says)
    assert said.count("\n") == 1

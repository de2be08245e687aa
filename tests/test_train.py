"""The whole job in three steps, on one rank and on two; stopped and resumed; and what it says to bad input."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from srpo_fast.config import DEFAULT_CONFIG, ColdStartConfig, load_config
from srpo_fast.embedded.base import Recipe, Stage, ensure_base_model
from srpo_fast.embedded.task import SYSTEM_DIRECT, SYSTEM_REFLECT, Sample, careful_answer, direct_answer, load_samples
from srpo_fast.embedded.teacher import EmbeddedTeacher
from srpo_fast.formats.sft import SftExample
from srpo_fast.monitor.run_directory import open_run, read_jsonl
from srpo_fast.parallel import Parallel
from srpo_fast.policy.hf_directory import HFDirectory
from srpo_fast.reflection.cold_start import SftSequences, run_cold_start
from tests.launch import run_on_ranks, run_script
from tests.policy_case import OPTIMIZER, open_encoder, open_policy, packer

# a few seconds: it writes the form of an answer, and the answer now and then
SHORT = Recipe(
    text=Stage(steps=60, batch_size=32, lr=3e-3, last_lr=1e-3),
    align=Stage(steps=5, batch_size=16, lr=2e-3, last_lr=1e-3),
    joint=Stage(steps=10, batch_size=16, lr=2e-3, last_lr=1e-3),
    samples=400,
)
LESSONS = ColdStartConfig(epochs=4, batch_size=16, lr=2e-3)
SMALL_JOB = (
    "steps=3", "save_every=1", "data.prompts_per_step=8", "reflection.prompts=64", "reflection.max_tokens=24",
    "cold_start.epochs=1", "cold_start.batch_size=16", "cold_start.lr=1e-5", "rollout.max_tokens=48",
    "rollout.max_num_seqs=64", "rollout.kv_cache_gib=0.0625", "optimizer.tokens_per_micro_batch=1024",
    "evaluation.questions=8", "evaluation.every=3", "evaluation.validation_questions=4",
    "evaluation.benchmarks=[{name: embedded, limit: 8}]", "evaluation.keep_best=evaluation/embedded/acc_first",
)  # fmt: skip
LAYOUTS = {
    "one": [],
    "tp": ["parallel.tp=2", "parallel.sequence_parallel=true", "model.recompute=full"],
    "pp": ["parallel.pp=2"],
    "dp": ["parallel.distributed_optimizer=true", "optimizer.share_prompts=true"],
}


@pytest.fixture(scope="module")
def base_model(one_process: Parallel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes SRPO's form well enough, and badly enough, for rewards to differ in every step."""
    root = tmp_path_factory.mktemp("base")
    source = ensure_base_model(root, 0, lambda done, total: None, SHORT)
    encoder, policy = open_encoder(source), open_policy(source, one_process)
    teacher = EmbeddedTeacher(samples := load_samples("train", 64, 0))
    examples = [each for sample in samples for each in lessons(teacher, sample)]
    sequences = SftSequences(
        examples, [True] * len(examples), encoder, system_prompt="", image_root=root, min_pixels=784, max_pixels=10**6
    )
    run_cold_start(policy, sequences, packer(source, one_process, 4096), LESSONS, OPTIMIZER, lambda loss: None)
    policy.source.export(root / "taught", policy.hf_weights(), writes=True)
    return root / "taught"


def lessons(teacher: EmbeddedTeacher, sample: Sample) -> tuple[SftExample, SftExample]:
    """A right first answer reflected on, and the first answer alone where one answer is asked for."""
    first, question = direct_answer(sample), sample.question
    reflection = teacher.reflect(question, first)
    assert reflection
    both = f"{first}<reflection>{reflection.text}</reflection>{careful_answer(sample)}"
    reflected = SftExample(
        id=question.id, system=SYSTEM_REFLECT, text=question.text, images=question.images, assistant=both
    )
    return reflected, replace(reflected, system=SYSTEM_DIRECT, assistant=first)


@pytest.fixture(scope="module")
def run_of(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run directory of a layout, whose job is done when first asked for."""
    root = tmp_path_factory.mktemp("runs")

    def run(layout: str) -> Path:
        if not (root / layout).exists():
            ranks = 1 if layout == "one" else 2
            train(base_model, root / layout, *LAYOUTS[layout], ranks=ranks, by_torchrun=layout == "dp")
        return root / layout

    return run


def train(base_model: Path, run_dir: Path, *overrides: str, ranks: int = 1, by_torchrun: bool = False) -> str:
    """What the job wrote on the terminal; its exit code was 0. by_torchrun: started as a user does, which is slower."""
    arguments = ["srpo_fast/train.py", f"model.path={base_model}", f"run.dir={run_dir}", *SMALL_JOB, *overrides]
    result = run_script(*arguments, ranks=ranks) if by_torchrun else run_on_ranks(ranks, *arguments)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    assert "Warning: " not in result.stderr, result.stderr[-4000:]  # none is anything that a user could act on
    return result.stdout


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if not key.startswith(("time/", "memory/"))}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_three_steps_on_one_rank_and_on_two(run_of, base_model, layout):
    run = run_of(layout)
    lines = read_jsonl(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all(line["train/updates"] == 1 and line["rollout/reward_mean"] > 0.1 for line in lines)
    assert all(0 < line["rollout/mismatch_abs"] <= 1e-5 for line in lines)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best", "step_000002", "step_000003"]
    assert (run / "checkpoints" / "best").resolve().name == "step_000003"  # the only validation
    assert len(list((run / "completions").iterdir())) == 3
    assert "<html" in (run / "report.html").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["heldout"].keys() == {"base", "sft", "srpo"}
    # the benchmark after the last step asks the held-out questions of the same weights
    assert ["evaluation/embedded/acc_first" in line for line in lines] == [False, False, True]
    assert lines[2]["evaluation/embedded/acc_first"] == summary["heldout"]["srpo"]["greedy_acc1"]
    assert lines[2]["evaluation/embedded/acc_last"] >= summary["heldout"]["srpo"]["greedy_acc2"]

    exported, base = HFDirectory(run / "hf"), HFDirectory(base_model)
    for name in base.tensor_names:
        assert torch.equal(exported.tensor(name), base.tensor(name)) == name.startswith("visual."), name


@pytest.mark.parametrize("layout", ["tp", "pp", "dp"])
def test_the_first_update_on_two_ranks_is_that_of_one(run_of, layout):
    ours, theirs = (without_times(read_jsonl(run_of(name) / "metrics.jsonl")[0]) for name in (layout, "one"))
    assert ours["train/loss"] == pytest.approx(theirs["train/loss"], abs=1e-5)
    assert ours["train/grad_norm"] == pytest.approx(theirs["train/grad_norm"], rel=1e-3)
    # the same completions were sampled, and scored alike
    layouts_own = {f"rollout/mismatch_{n}" for n in ("abs", "max", "kl")}
    layouts_own |= {"rollout/token_mult_prob_error", "rollout/engine_balance"}
    sampled = {key: value for key, value in theirs.items() if key.startswith("rollout/") and key not in layouts_own}
    assert {key: ours[key] for key in sampled} == pytest.approx(sampled, abs=1e-9)


def test_a_resumed_run_repeats_the_step_it_lost_and_no_other_and_may_be_given_more(run_of, base_model, tmp_path):
    whole, cut = run_of("one"), tmp_path / "cut"
    shutil.copytree(whole, cut)
    # as if it had been started for two steps, and then for three, of which the third was lost
    shutil.rmtree(cut / "checkpoints" / "step_000003")
    config = yaml.safe_load((cut / "config.resolved.yaml").read_text())
    (cut / "config.resolved.yaml").write_text(yaml.safe_dump(config | {"steps": 2}, sort_keys=False))
    for file in ("hf/model.safetensors", "report.html"):
        (cut / file).unlink()
    said = train(base_model, cut)
    assert "stage 1:" not in said
    assert "steps=2 until now, 3 from here on" in said
    assert (cut / "config.resolved.yaml").read_text() == yaml.safe_dump(
        config | {"run": config["run"] | {"dir": str(cut)}}, sort_keys=False
    )
    lines, expected = read_jsonl(cut / "metrics.jsonl"), read_jsonl(whole / "metrics.jsonl")
    assert lines[:2] == expected[:2]
    assert len(lines) == 3
    assert without_times(lines[2]) == pytest.approx(without_times(expected[2]), abs=1e-5)
    for file in ("completions/step_000002.jsonl", "hf/config.json"):
        assert (cut / file).read_bytes() == (whole / file).read_bytes()
    resumed, uninterrupted = HFDirectory(cut / "hf"), HFDirectory(whole / "hf")
    for name in uninterrupted.tensor_names:
        assert (resumed.tensor(name) - uninterrupted.tensor(name)).abs().max() <= 1e-5, name


EVERYTHING_ON = (
    "objective=gspo", "loss={mismatch_stop: 1.0e-5}", "loss.kl_coef=0.1", "loss.entropy_coef=0.01",
    "loss.importance=sequence_mask", "advantage={}", "advantage.drop_flat_groups=true", "advantage.mask_truncated=true",
    "rollout.refill_rounds=2", "optimizer.updates_per_step=2", "steps=2", "reflection.prompts=32", "data.heldout=null",
    "evaluation={}", "model.train_vision=true", "model.recompute=selective", "parallel.distributed_optimizer=true",
    "rollout.weights=alias",
)  # fmt: skip


def test_a_run_with_everything_on_and_its_resumption(base_model, tmp_path):
    """The sequence's ratio, KL, entropy, filter with refills, two updates a step, a trained tower, shared weights."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(base_model, whole, *EVERYTHING_ON)
    lines = read_jsonl(whole / "metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 1]
    assert all(line["train/updates"] == 2 and line["train/ratio_max"] > 1 for line in lines)
    # the first update of the run is at the reference, so its KL is 0; the mean over both is not
    assert 0 < lines[0]["train/kl"] < lines[1]["train/kl"]
    assert all(line["rollout/groups_sampled"] > 8 and line["rollout/rounds"] > 1 for line in lines)
    config = yaml.safe_load((whole / "config.resolved.yaml").read_text())
    assert (config["objective"], config["loss"]["ratio"], config["loss"]["clip_low"]) == ("gspo", "sequence", 3e-4)

    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step_000002")
    train(base_model, cut, *EVERYTHING_ON)
    resumed = read_jsonl(cut / "metrics.jsonl")
    assert len(resumed) == 2
    assert without_times(resumed[1]) == pytest.approx(without_times(lines[1]), abs=1e-5)


def test_rewards_that_are_all_equal_end_the_run_and_leave_its_checkpoints(base_model, tmp_path):
    (tmp_path / "flat.py").write_text("def pays(completion, answer):\n    print('noise')\n    return 1.0\n")
    run = tmp_path / "run"
    arguments = [
        f"model.path={base_model}", f"run.dir={run}", *SMALL_JOB, "reflection=null", "cold_start=null",
        "data.heldout=null", "evaluation={}", f"reward.variant={tmp_path}/flat.py:pays", "reward.max_flat_steps=2",
    ]  # fmt: skip
    # the second start resumes after one step, which counts
    for _ in range(2):
        result = run_on_ranks(1, "srpo_fast/train.py", *arguments)
        assert result.returncode == 1, result.stderr[-4000:]
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert "every completion of steps 0 to 1 earned the same reward, 1" in line
        assert "Traceback" not in result.stderr
        assert "noise" not in result.stdout
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_000000", "step_000001"]
        assert [line["rollout/reward_std"] for line in read_jsonl(run / "metrics.jsonl")] == [0.0, 0.0]
        assert len(list((run / "completions").iterdir())) == 2


# --- bad input ---


def question(image: str) -> str:
    return json.dumps({"question": "<image>What is the sum?", "image": image, "answer": "9"})


@pytest.fixture(scope="module")
def refusals(untrained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and stderr of every attempt."""
    root = tmp_path_factory.mktemp("refused")
    Image.new("RGB", (112, 28)).save(root / "good.png")
    (root / "corrupt.png").write_bytes((root / "good.png").read_bytes()[:20])
    files = {
        "missing_image": [question("good.png"), question("nowhere.png")],
        "corrupt_image": [question("good.png"), question("corrupt.png")],
        "unreadable_line": [question("good.png"), '{"question": "cut o'],
    }
    for name, lines in files.items():
        (root / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    model = f"model.path={untrained_model}"
    attempts = {
        "parallel_sizes": [model, "parallel.tp=3"],
        "missing_model": [f"model.path={root / 'no_model'}"],
        "no_model": [f"model.path={root}"],
        "few_positions": [model, "rollout.max_tokens=4000", "optimizer.tokens_per_micro_batch=5000"],
        "small_cache": [model, "rollout.kv_cache_gib=1.0e-6"],
        "missing_data": [model, f"data.train={root / 'nowhere.jsonl'}"],
        "few_questions": [model, "data.prompts_per_step=1000000"],
        "other_config": [model, "run.seed=4"],
        "sleeping_cache": [model, "rollout.kv_cache=sleeps"],
        "two_mistakes": [model, "steps=-1", "rollout.group_sise=4"],
        **{name: [model, f"data.train={root / name}.jsonl"] for name in files},
    }
    run_dirs = {name: root / "runs" / name for name in attempts}
    other = open_run(load_config(DEFAULT_CONFIG, [model, f"run.dir={run_dirs['other_config']}"]))
    other.metrics.write_text('{"step": 0}\n')
    before = snapshot(run_dirs["other_config"])
    (root / "attempts.json").write_text(
        json.dumps({name: [f"run.dir={run_dirs[name]}", *arguments] for name, arguments in attempts.items()})
    )
    result = run_on_ranks(1, "tests/bad_inputs.py", str(root / "attempts.json"))
    assert result.returncode == 0, result.stderr[-4000:]
    assert snapshot(run_dirs["other_config"]) == before
    return json.loads(result.stdout.splitlines()[-1])


def snapshot(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("attempt", "says"),
    [
        ("parallel_sizes", ["parallel.tp=3 x parallel.pp=1 does not divide the 1 process", "--nproc-per-node"]),
        ("missing_model", ["no_model"]),
        ("no_model", ["no config.json in"]),
        ("few_positions", ["is more than the model's 2048 positions", "lower one of them"]),
        ("small_cache", ["kv_cache_gib=1e-06 holds no sequence of data.max_prompt_tokens=64", "set at least"]),
        ("missing_data", ["nowhere.jsonl", "check data.train"]),
        ("missing_image", ["missing_image.jsonl", "line 2", "nowhere.png", "found none"]),
        ("corrupt_image", ["corrupt_image.jsonl", "line 2", "corrupt.png", "repair it or leave it out"]),
        ("unreadable_line", ["unreadable_line.jsonl", "line 2", "expected one JSON object a line"]),
        ("few_questions", ["got 16384 questions for 1000000 prompts", "lower data.prompts_per_step"]),
        ("other_config", ["holds a run with run.seed=0, this one has run.seed=4", "choose another run.dir"]),
        ("sleeping_cache", ["rollout.kv_cache=sleeps needs a CUDA device, got cpu", "set rollout.kv_cache=resident"]),
        ("two_mistakes", ["steps", "did you mean rollout.group_size?"]),
    ],
)
def test_bad_input_ends_in_one_clear_error(refusals, attempt, says):
    code, stderr = refusals[attempt]
    assert code == 2
    assert stderr.startswith("error: ")
    assert stderr.count("error:") == 1
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) <= 2  # a file's records are named below it, a line each
    for part in says:
        assert part in stderr


def test_a_mistake_is_exit_code_2_and_one_line_for_the_shell():
    result = run_script("srpo_fast/train.py", "rollout.group_sise=4")
    assert result.returncode == 2
    assert result.stderr == "error: unknown key rollout.group_sise; did you mean rollout.group_size?\n"
    assert result.stdout == ""

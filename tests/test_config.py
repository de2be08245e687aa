"""The config of a run: every mistake is named, in one line, with what to do."""

import re
from pathlib import Path

import pytest
import yaml

from srpo_fast.config import (
    DEFAULT_CONFIG,
    Config,
    ConfigError,
    EndpointConfig,
    LocalTeacherConfig,
    dump_config,
    load_config,
)

CONFIGS = sorted(DEFAULT_CONFIG.parent.glob("*.yaml"))


def refusal(*overrides: str, path: Path = DEFAULT_CONFIG) -> str:
    """The one line that says why these overrides are refused."""
    with pytest.raises(ConfigError) as error:
        load_config(path, list(overrides))
    message = str(error.value)
    assert "\n" not in message
    return message


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_that_ships_is_valid(path):
    config = load_config(path, [])
    assert config.run.dir.parts[0] == "runs"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_resolved_config_reads_back_as_the_same_run(path, tmp_path):
    config = load_config(path, ["run.seed=3", "optimizer.betas=[0.8, 0.9]"])
    resolved = write(tmp_path / "config.resolved.yaml", dump_config(config))
    assert load_config(resolved, []) == config
    # nothing is left to defaults that a later release may change
    assert yaml.safe_load(resolved.read_text())["loss"]["clip_low"] == config.loss.clip_low


def test_without_a_config_file_the_embedded_run_is_the_default():
    assert load_config(DEFAULT_CONFIG, []).model.path == "embedded"


@pytest.mark.parametrize(
    ("override", "unknown", "nearest"),
    [
        ("stepz=3", "stepz", "steps"),
        ("optimiser.lr=1", "optimiser", "optimizer"),
        ("rollout.group_sise=4", "rollout.group_sise", "rollout.group_size"),
        ("cold_start.epoch=1", "cold_start.epoch", "cold_start.epochs"),
        ("rollout.clip_low=0.3", "rollout.clip_low", "loss.clip_low"),  # the right name in the wrong section
        ("optimizer.learning_rate=1", "optimizer.learning_rate", "optimizer.lr"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(override, unknown, nearest):
    assert refusal(override) == f"unknown key {unknown}; did you mean {nearest}?"


def test_a_key_like_no_other_is_refused_without_a_guess():
    assert refusal("zzzzqqqq=1") == "unknown key zzzzqqqq"


def test_all_mistakes_are_named_at_once():
    message = refusal("steps=-1", "rollout.group_sise=4", "parallel.tp=0", "loss.normalizer=words")
    for part in ("steps", "rollout.group_sise", "parallel.tp", "loss.normalizer"):
        assert part in message
    assert "got -1" in message
    assert "'completion', 'token' or 'constant'" in message


def test_chunks_of_one_stage_are_refused():
    says = refusal("parallel.chunks_per_stage=2")
    assert re.search("parallel: chunks_per_stage=2 .* raise pp, or leave it out", says)


def test_a_missing_key_is_named(tmp_path):
    path = write(tmp_path / "short.yaml", "run: {dir: runs/x}\nmodel: {}\ndata: {train: embedded}\n")
    message = refusal(path=path)
    assert "missing key model.path" in message
    assert "missing key prompt" in message


def test_overrides_replace_values_of_any_kind():
    config = load_config(
        DEFAULT_CONFIG,
        ["steps=7", "optimizer.lr=1e-3", "data.heldout=null", "optimizer.betas=[0.5, 0.6]", "run.dir=runs/a=b"],
    )
    assert config.steps == 7
    assert config.optimizer.lr == 1e-3  # YAML alone reads 1e-3 as text
    assert config.data.heldout is None
    assert config.optimizer.betas == (0.5, 0.6)
    assert config.run.dir == Path("runs/a=b")


def test_the_later_override_wins():
    assert load_config(DEFAULT_CONFIG, ["steps=7", "steps=8"]).steps == 8


def test_a_section_can_be_taken_out_and_put_in(tmp_path):
    without = load_config(DEFAULT_CONFIG, ["reflection=null", "cold_start=null"])
    assert without.reflection is None
    assert without.cold_start is None
    resolved = write(tmp_path / "without.yaml", dump_config(without))
    again = load_config(resolved, ["reflection.teacher=embedded", "reflection.max_tokens=32", "cold_start.epochs=2"])
    assert again.reflection
    assert again.cold_start
    assert again.cold_start.epochs == 2


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("steps", "section.key=value"),
        ("=3", "section.key=value"),
        ("steps=[1", "not valid YAML"),
        ("steps.more=1", "steps is a value, not a section"),
        ("run.dir.sub.x=1", "dir is a value, not a section"),
        ("steps=many", "got 'many'"),
        ("model.dtype=float16", "got 'float16'"),
    ],
)
def test_an_override_that_cannot_be_meant_says_why(override, says):
    assert says in refusal(override)


def test_stage_1_needs_both_of_its_sections():
    message = refusal("cold_start=null")
    assert "reflection and cold_start are one stage: give both sections or neither, or cold_start.data" in message


def test_a_file_takes_the_place_of_the_reflection_section():
    assert "set reflection=null" in refusal("cold_start.data=x.json")
    config = load_config(DEFAULT_CONFIG, ["cold_start.data=x.json", "reflection=null"])
    assert config.cold_start.data == Path("x.json")


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        ("o4-mini", "expected embedded, a section with the base_url and model of a server, or one with the path"),
        ("{model: m, bas_url: 'http://x'}", "unknown key reflection.teacher.bas_url; did you mean"),
        ("{path: m, tpp: 3}", "unknown key reflection.teacher.tpp; did you mean reflection.teacher.tp?"),
        ("{base_url: 'http://x'}", "missing key reflection.teacher.model"),
    ],
)
def test_what_is_wrong_with_a_teacher_is_said_of_the_kind_that_is_meant(teacher, says):
    message = refusal(f"reflection.teacher={teacher}")
    assert says in message
    assert message.count(";") <= 1


def test_a_teacher_is_a_program_a_server_or_a_model():
    for teacher, kind in [("{model: m}", EndpointConfig), ("{path: /m}", LocalTeacherConfig), ("embedded", str)]:
        assert isinstance(load_config(DEFAULT_CONFIG, [f"reflection.teacher={teacher}"]).reflection.teacher, kind)


def test_the_policy_may_not_answer_longer_than_its_engine_allows_but_a_server_may():
    assert "reflection.max_tokens is above rollout.max_tokens" in refusal("reflection.max_tokens=65")
    config = load_config(DEFAULT_CONFIG, ["reflection.max_tokens=65", "reflection.answerer={model: m}"])
    assert config.reflection.answerer.model == "m"


def test_the_length_reward_needs_its_bounds_in_order():
    message = refusal("reward.target_ratio=5", "reward.max_ratio=4")
    assert "max_ratio (4.0) must be greater than target_ratio (5.0)" in message


@pytest.mark.parametrize("variant", ["papr", "mine.py", "mine.py:", "mine:pays", "mine.py:1", ":pays"])
def test_a_reward_is_one_of_ours_or_a_function_in_a_file(variant):
    message = refusal(f"reward.variant='{variant}'")
    assert f"expected paper, openrlhf, two_step, grpo or file.py:function, got '{variant}'" in message
    assert load_config(DEFAULT_CONFIG, ["reward.variant=some/mine.py:pays"]).reward.variant == "some/mine.py:pays"


@pytest.mark.parametrize("variant", ["openrlhf", "grpo", "mine.py:pays"])
def test_a_weight_that_would_change_nothing_is_refused(variant):
    message = refusal(f"reward.variant={variant}", "reward.effectiveness_weight=0")
    assert f"effectiveness_weight (0.0) has no effect with variant {variant}" in message


@pytest.mark.parametrize("variant", ["openrlhf", "two_step", "grpo", "mine.py:pays"])
def test_a_gate_that_would_change_nothing_is_refused(variant):
    message = refusal(f"reward.variant={variant}", "reward.malformed=zero")
    assert f"malformed zero has no effect with variant {variant}" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [", "not valid YAML"), ("- a\n- b\n", "must hold a mapping of sections, got list"), ("", "got NoneType")],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, says):
    assert says in refusal(path=write(tmp_path / "x.yaml", text))


def test_a_missing_file_is_refused_and_says_where_configs_are(tmp_path):
    message = refusal(path=tmp_path / "nowhere.yaml")
    assert "nowhere.yaml does not exist" in message
    assert "configs/" in message


def test_a_config_cannot_change_during_a_run():
    config = load_config(DEFAULT_CONFIG, [])
    with pytest.raises(ValueError, match="frozen"):
        config.steps = 3
    assert isinstance(config, Config)


def test_remainders_are_refused_where_weights_have_none():
    assert "set model.dtype=bfloat16, or master_weights=full" in refusal("optimizer.master_weights=remainder")
    load_config(DEFAULT_CONFIG, ["optimizer.master_weights=remainder", "model.dtype=bfloat16"])


def test_validation_without_questions_is_refused():
    with pytest.raises(ConfigError, match=r"set data\.validation, or evaluation\.every=0"):
        load_config(DEFAULT_CONFIG, ["data.validation=null"])
    load_config(DEFAULT_CONFIG, ["data.validation=null", "evaluation.benchmarks=[{name: mmmu}]"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["evaluation.benchmarks=[{name: imagenet}]"], "evaluation.benchmarks.0.name"),
        (["evaluation.benchmarks=[{name: mmmu}, {name: mmmu, limit: 5}]"], "every benchmark once, got mmmu again"),
        (["evaluation.benchmarks=[{name: mmmu, limt: 5}]"], "unknown key evaluation.benchmarks.0.limt"),
        (["evaluation.benchmarks=[{name: mmmu}]", "evaluation.every=0"], "set every to the steps between them"),
        (["evaluation.keep_best=evaluation/mmmu/acc_last"], "expected one of validation/acc_first"),
        (["evaluation.keep_best=validation/acc_first", "data.validation=null", "evaluation.benchmarks=[{name: mmmu}]"],
         "set data.validation"),
        (["evaluation.keep_best=validation/acc_second", "reward.variant=grpo"], "gives one answer"),
    ],
)  # fmt: skip
def test_benchmarks_and_the_best_checkpoint_need_validations_and_names(overrides, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_config(DEFAULT_CONFIG, overrides)


@pytest.mark.parametrize(
    "override",
    [
        "rollout.group_size=1", "loss.importance_cap=-1", "optimizer.lr=.nan", "optimizer.lr=-1", "run.seed=-1",
        "optimizer.betas=[2, 3]", "rollout.temperature=.inf", "optimizer.tokens_per_micro_batch=50",
        "data.min_pixels=100000000", "reflection.max_tokens=65", "advantage.accuracy_low=1.1",
    ],
)  # fmt: skip
def test_values_that_would_train_nothing_or_nonsense_are_refused(override):
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        load_config(DEFAULT_CONFIG, [override])

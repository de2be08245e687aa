"""An objective's name fills in what the config leaves open, and nothing else."""

from pathlib import Path
from typing import get_args

import pytest

from srpo_fast.config import DEFAULT_CONFIG, Config, ConfigError, dump_config, load_config
from srpo_fast.config.presets import PRESETS, ObjectiveName

CONFIGS = sorted(DEFAULT_CONFIG.parent.glob("*.yaml"))
LEAST = """
run: {dir: runs/x}
model: {path: /models/x}
data: {train: /data/x.jsonl}
prompt: {answer_system: a, rollout_system: b}
"""


@pytest.fixture
def least(tmp_path: Path) -> Path:
    """A config that gives nothing but what has to be given."""
    path = tmp_path / "least.yaml"
    path.write_text(LEAST)
    return path


def differences(config: Config, default: Config) -> dict[str, object]:
    return {
        f"{section}.{key}": value
        for section in ("loss", "advantage", "rollout")
        for key, value in getattr(config, section).model_dump().items()
        if value != getattr(getattr(default, section), key)
    }


@pytest.mark.parametrize(
    ("objective", "values"),
    [
        ("grpo", {}),
        (
            "dapo",
            {
                "loss.clip_high": 0.28, "loss.normalizer": "token", "advantage.accuracy_low": 0.01,
                "advantage.accuracy_high": 0.99, "advantage.drop_flat_groups": True, "advantage.mask_truncated": True,
                "advantage.overlong_share": 4096 / 20480, "rollout.refill_rounds": 4,
            },
        ),
        ("dr_grpo", {"loss.normalizer": "constant", "advantage.scale": "none"}),
        ("bnpo", {"loss.normalizer": "token"}),
        ("gspo", {"loss.ratio": "sequence", "loss.clip_low": 3e-4, "loss.clip_high": 4e-4}),
        (
            "cispo",
            {"loss.surrogate": "cispo", "loss.clip_low": 1.0, "loss.clip_high": 4.0, "loss.normalizer": "token"},
        ),
    ],
)  # fmt: skip
def test_each_objective_differs_from_grpo_in_these_values(least, objective, values):
    assert differences(load_config(least, [f"objective={objective}"]), load_config(least, [])) == values


@pytest.mark.parametrize("objective", PRESETS)
def test_the_resolved_config_shows_every_value_and_reads_back(least, tmp_path, objective):
    config = load_config(least, [f"objective={objective}"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(dump_config(config))
    assert load_config(resolved, []) == config


@pytest.mark.parametrize("objective", PRESETS)
def test_a_value_that_is_given_wins(least, objective):
    config = load_config(least, [f"objective={objective}", "loss.clip_low=0.15", "loss.normalizer=completion"])
    assert (config.objective, config.loss.clip_low, config.loss.normalizer) == (objective, 0.15, "completion")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("objective", PRESETS)
def test_an_objective_on_the_command_line_is_itself_in_every_config_that_ships(path, objective):
    config = load_config(path, ["loss.clip_low=0.15", f"objective={objective}"])
    found = {s: {key: getattr(getattr(config, s), key) for key in v} for s, v in PRESETS[objective].items()}
    assert found == PRESETS[objective] | {"loss": PRESETS[objective]["loss"] | {"clip_low": 0.15}}


def test_an_objective_in_the_file_leaves_the_files_values(least):
    least.write_text(LEAST + "objective: gspo\nloss: {clip_low: 0.1}\n")
    assert (load_config(least, []).loss.clip_low, load_config(least, []).loss.ratio) == (0.1, "sequence")


def test_the_first_preset_is_the_schemas_own_defaults():
    for section, values in PRESETS["grpo"].items():
        fields = Config.model_fields[section].default
        assert {key: getattr(fields, key) for key in values} == values


def test_a_value_that_is_given_does_not_keep_its_neighbours_from_the_preset(least):
    config = load_config(least, ["objective=dapo", "loss.clip_high=0.3", "advantage.mask_truncated=false"])
    assert (config.loss.clip_high, config.loss.normalizer) == (0.3, "token")
    assert (config.advantage.mask_truncated, config.advantage.drop_flat_groups) == (False, True)


def test_every_name_has_its_values():
    assert tuple(PRESETS) == get_args(ObjectiveName)


def test_an_empty_section_is_one_that_gives_nothing(least):
    least.write_text(LEAST + "loss:\nrollout: {}\nobjective: dapo\n")
    config = load_config(least, [])
    assert (config.loss.clip_high, config.rollout.refill_rounds) == (0.28, 4)


@pytest.mark.parametrize("objective", ["ppo", "[grpo]", "3"])
def test_an_unknown_objective_is_refused_with_the_known_ones(least, objective):
    with pytest.raises(ConfigError, match=r"objective: .*'grpo', 'dapo', 'dr_grpo', 'bnpo', 'gspo' or 'cispo'"):
        load_config(least, [f"objective={objective}"])


def test_a_section_that_is_a_value_is_refused(least):
    with pytest.raises(ConfigError, match="loss"):
        load_config(least, ["objective=gspo", "loss=3"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_configs_that_ship_are_grpo_without_any_of_the_new_terms(path):
    config = load_config(path, [])
    loss, advantage = config.loss, config.advantage
    assert (config.objective, loss.ratio, loss.surrogate, loss.dual_clip) == ("grpo", "token", "clipped", None)
    assert (loss.kl_coef, loss.entropy_coef, loss.importance, loss.importance_cap) == (0.0, 0.0, "truncate", 2.0)
    assert (loss.clip_low, loss.clip_high, config.rollout.refill_rounds) == (0.2, 0.2, 0)
    assert (advantage.filter_by, advantage.drop_flat_groups, advantage.mask_truncated) == ("final_answer", False, False)
    assert advantage.overlong_share == 0


def test_a_bound_that_is_not_used_is_not_compared(least):
    assert load_config(least, ["loss.importance_cap=0.4"]).loss.importance_cap == 0.4


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["loss.surrogate=cispo", "loss.dual_clip=3"], "dual_clip has no effect with surrogate cispo"),
        (
            ["loss.importance=icepop", "loss.importance_floor=2"],
            r"importance_floor \(2.0\) must be less than",
        ),
        (["loss.dual_clip=1"], "loss.dual_clip"),
        (["loss.kl_coef=-1"], "loss.kl_coef"),
        (["loss.importance_cap=null"], "loss.importance_cap"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(least, overrides, says):
    with pytest.raises(ConfigError, match=says):
        load_config(least, overrides)

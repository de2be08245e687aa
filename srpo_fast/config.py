"""The typed schema of a run: one YAML file, `key=value` overrides, every error named at once.

The defaults here are the paper's where it gives a value; configs/*.yaml say where each value comes from.
"""

import argparse
import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from srpo_fast.presets import PRESETS, ObjectiveName

DEFAULT_CONFIG = Path(__file__).parent.parent / "configs" / "embedded.yaml"

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0)]
Momentum = Annotated[float, Field(ge=0.0, lt=1.0)]


class UserError(ValueError):
    """A user's mistake: the message says what was expected, what came and what to do."""


class ConfigError(UserError):
    """A mistake in the configuration of a run."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class RunConfig(Section):
    dir: Path
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    resume: Literal["auto", "never"] = "auto"


class ModelConfig(Section):
    path: str  # a Hugging Face directory, or "embedded"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    train_vision: bool = False  # SRPO freezes the vision tower
    recompute: Literal["none", "selective", "full"] = "none"  # in the backward pass: the MLPs, or whole layers


class ParallelConfig(Section):
    """How ranks share the policy; none of it changes what is learned."""

    tp: Positive = 1  # of the policy and of the engine
    pp: Positive = 1  # dp is what remains of the world
    cp: Positive = 1  # ranks that share the rows of a micro-batch, for long sequences
    chunks_per_stage: Positive = 1  # more than 1: interleaved pipeline stages, with a smaller bubble
    sequence_parallel: bool = False  # tp ranks also share the rows between their matrix products
    distributed_optimizer: bool = False  # dp ranks share the optimizer's state

    @model_validator(mode="after")
    def _fit(self) -> "ParallelConfig":
        if self.sequence_parallel and self.tp == 1:
            raise ValueError("sequence_parallel shares rows over tensor-parallel ranks: raise tp, or leave it out")
        if self.chunks_per_stage > 1 and self.pp == 1:
            raise ValueError(
                f"chunks_per_stage={self.chunks_per_stage} cuts pipeline stages: raise pp, or leave it out"
            )
        return self


class DataConfig(Section):
    train: str  # a file or folder of questions (FOLDER#SPLIT where there are splits), or "embedded"
    validation: str | None = None  # watched during the run: settings are chosen on it
    heldout: str | None = None  # reported at the end of every phase, never chosen on
    image_root: Path | None = None  # where relative image paths start; default: the file's folder
    min_pixels: Positive = 4 * 28 * 28
    max_pixels: Positive = 640 * 28 * 28
    max_prompt_tokens: Positive = 1024  # longer prompts are left out, never cut
    prompts_per_step: Positive = 128
    bad_records: Literal["quarantine", "stop"] = "quarantine"  # left out and written down, or the end of the run
    max_bad_share: Fraction = 0.05  # of a file's records; with more bad ones the run ends


class PromptConfig(Section):
    answer_system: str  # asks for one answer: stage 1, and plain GRPO
    rollout_system: str  # stage 2 and evaluation after it


class ReflectionConfig(Section):
    """Stage 1: whose answers, how many, and who reflects."""

    teacher: Literal["embedded"]
    prompts: Positive = 10_000
    right_share: Fraction | None = 0.3  # of first answers among the records; None: as sampled
    temperature: float = Field(default=0.2, ge=0.0)
    max_tokens: Positive = 1024


class ColdStartConfig(Section):
    """SFT on the reflection records."""

    epochs: float = Field(default=1.0, gt=0)
    batch_size: Positive = 16
    lr: Rate = 1e-5
    warmup_share: Fraction = 0.1
    decay_share: Fraction = 0.9  # of the updates, at the end, over which the rate falls to zero
    first_answer_loss: Literal["always", "when_right"] = "always"


class RolloutConfig(Section):
    group_size: Annotated[int, Field(ge=2)] = 8  # advantages compare the completions of a group
    temperature: float = Field(default=1.0, gt=0.0)
    max_tokens: Positive = 2048
    max_num_seqs: Positive = 256
    kv_cache_gib: float = Field(default=4.0, gt=0.0)  # GiB of KV cache a rank
    refill_rounds: Annotated[int, Field(ge=0)] = 0  # of further prompts when the filter left less than prompts_per_step


RewardVariant = Literal["paper", "openrlhf", "two_step", "grpo"]


class RewardConfig(Section):
    """What a completion earns. The paper's ablations are weights of 0.

    paper: equations 4-8. openrlhf: the table of the published code. two_step: two answers without a reflection between
    them. grpo: one answer. file.py:function: the user's own. The length is rewarded by the first two only.
    """

    variant: str = "paper"  # a RewardVariant or file.py:function
    effectiveness_weight: float = Field(default=1.0, ge=0.0)  # of I_eff: in paper and two_step
    length_weight: float = 0.1  # alpha
    target_ratio: float = 2.0  # T_target over the first response's length
    max_ratio: float = 2.5  # T_max over it

    @field_validator("variant")
    @classmethod
    def _known(cls, variant: str) -> str:
        path, _, function = variant.rpartition(":")
        if variant not in get_args(RewardVariant) and not (path.endswith(".py") and function.isidentifier()):
            raise ValueError(f"expected {', '.join(get_args(RewardVariant))} or file.py:function, got {variant!r}")
        return variant

    @model_validator(mode="after")
    def _agree(self) -> "RewardConfig":
        if self.max_ratio <= self.target_ratio:
            raise ValueError(f"max_ratio ({self.max_ratio}) must be greater than target_ratio ({self.target_ratio})")
        if self.effectiveness_weight != 1 and self.variant not in ("paper", "two_step"):
            raise ValueError(
                f"effectiveness_weight ({self.effectiveness_weight}) has no effect with variant {self.variant}; "
                "leave it out, or take variant paper or two_step"
            )
        return self


class AdvantageConfig(Section):
    """Which completions train, and with what advantage (advantages.py)."""

    scale: Literal["group_std", "batch_std", "none"] = "group_std"
    filter_by: Literal["final_answer", "shaped_accuracy"] = "final_answer"  # shaped: the published code's statistic
    accuracy_low: Fraction = 0.1  # groups with a mean of that outside [low, high] are dropped
    accuracy_high: Fraction = 0.9
    drop_flat_groups: bool = False  # whose rewards are all equal: they then count in no mean either
    mask_truncated: bool = False  # completions cut at the token limit do not train, though they count in their group
    overlong_share: Fraction = 0.0  # of rollout.max_tokens, at the end, over which the reward falls by up to 1


class LossConfig(Section):
    """The objective; srpo_kernels/objective.py has the equations, loss.py the normalizers."""

    ratio: Literal["token", "sequence"] = "token"
    surrogate: Literal["clipped", "cispo"] = "clipped"
    clip_low: float = Field(default=0.2, gt=0.0)
    clip_high: float = Field(default=0.2, gt=0.0)
    dual_clip: float | None = Field(default=None, gt=1.0)  # the published code: 3
    normalizer: Literal["completion", "token", "constant"] = "completion"
    kl: Literal["k1", "k2", "k3"] = "k3"
    kl_coef: float = Field(default=0.0, ge=0.0)  # against the weights with which stage 2 began; 0: they are not kept
    entropy_coef: float = Field(default=0.0, ge=0.0)
    importance: Literal["none", "truncate", "icepop", "sequence_mask"] = "truncate"  # correction for the engine
    importance_floor: float = Field(default=0.5, ge=0.0)  # of icepop and sequence_mask
    importance_cap: Rate = 2.0
    mismatch_stop: float = Field(default=0.05, gt=0.0)  # mean |engine - policy| log-prob that ends the run

    @model_validator(mode="after")
    def _agree(self) -> "LossConfig":
        if self.dual_clip is not None and self.surrogate == "cispo":
            raise ValueError("dual_clip has no effect with surrogate cispo, whose clip_high bounds every ratio")
        if self.importance in ("icepop", "sequence_mask") and self.importance_floor >= self.importance_cap:
            raise ValueError(
                f"importance_floor ({self.importance_floor}) must be less than importance_cap ({self.importance_cap})"
            )
        return self


class OptimizerConfig(Section):
    lr: Rate = 1e-6
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay_share: Fraction = 0.0  # of the steps, at the end, over which the rate falls to zero
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    grad_clip: Rate = 1.0
    updates_per_step: Positive = 1
    tokens_per_micro_batch: Positive = 16_384


class EvaluationConfig(Section):
    questions: Positive = 1024  # held-out, at the end of every phase
    every: Annotated[int, Field(ge=0)] = 0  # steps between validations; 0: none
    validation_questions: Positive = 256


class Config(Section):
    run: RunConfig
    model: ModelConfig
    data: DataConfig
    prompt: PromptConfig
    objective: ObjectiveName = "grpo"  # sets what loss, advantage and rollout leave open (presets.py)
    steps: Annotated[int, Field(ge=0)] = 500
    save_every: Positive = 50
    parallel: ParallelConfig = ParallelConfig()
    reflection: ReflectionConfig | None = None
    cold_start: ColdStartConfig | None = None
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, document: Any) -> Any:
        """Fills what the objective's name says and the document does not."""
        if not isinstance(document, dict):
            return document
        name = document.get("objective", "grpo")
        preset = PRESETS.get(name, {}) if isinstance(name, str) else {}
        given = {section: document.get(section) or {} for section in preset}
        return document | {
            section: values | given[section] for section, values in preset.items() if isinstance(given[section], dict)
        }

    @model_validator(mode="after")
    def _stages_agree(self) -> "Config":
        if (self.reflection is None) != (self.cold_start is None):
            raise ValueError("reflection and cold_start are one stage: give both sections or neither")
        if self.evaluation.every and self.data.validation is None:
            raise ValueError("evaluation.every needs questions: set data.validation, or evaluation.every=0")
        if self.advantage.accuracy_low > self.advantage.accuracy_high:
            raise ValueError("advantage.accuracy_low is above accuracy_high: every group would be dropped")
        if self.data.min_pixels > self.data.max_pixels:
            raise ValueError("data.min_pixels is above data.max_pixels: no image would fit")
        longest = self.data.max_prompt_tokens + self.rollout.max_tokens
        if self.optimizer.tokens_per_micro_batch < longest:
            raise ValueError(
                f"optimizer.tokens_per_micro_batch={self.optimizer.tokens_per_micro_batch} holds no sequence of "
                f"data.max_prompt_tokens + rollout.max_tokens = {longest}; raise it, or lower one of these"
            )
        if self.reflection and self.reflection.max_tokens > self.rollout.max_tokens:
            raise ValueError("reflection.max_tokens is above rollout.max_tokens, for which the engine is built")
        return self


def load_config(path: Path, overrides: list[str]) -> Config:
    """The config in `path` with `section.key=value` overrides, or ConfigError naming every mistake at once."""
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist; configs/ holds the ones that ship")
    try:
        document = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, got {type(document).__name__}")
    for override in overrides:
        _apply_override(document, override)
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        raise config_error(error) from error


def config_error(error: ValidationError) -> ConfigError:
    """Every mistake that pydantic found, in one line."""
    return ConfigError("; ".join(_explain(e) for e in error.errors()))


def config_from_arguments(arguments: list[str]) -> Config:
    """What train.py's command line says: --config F.yaml and any number of section.key=value."""
    parser = argparse.ArgumentParser(prog="train.py", description="Trains Qwen2.5-VL with SRPO.")
    add_config_arguments(parser)
    options = parser.parse_intermixed_args(arguments)
    return load_config(options.config, options.overrides)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="a YAML file (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="replaces one value of the config")


def dump_config(config: Config) -> str:
    """The resolved config as YAML: what config.resolved.yaml holds."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _apply_override(document: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form section.key=value")
    *parents, leaf = key.split(".")
    node = document
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        node = node[parent]
        if not isinstance(node, dict):
            raise ConfigError(f"override {override!r}: {parent} is a value, not a section")
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error


def _explain(error: Any) -> str:
    """One line for one pydantic error; an unknown key names the nearest known one."""
    location = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = _nearest_key(location)
        return f"unknown key {location}" + (f"; did you mean {near}?" if near else "")
    if error["type"] == "value_error":  # a check of ours, which says what came
        return f"{location or 'config'}: {error['msg'].removeprefix('Value error, ')}"
    if error["type"] == "missing":
        return f"missing key {location}"
    return f"{location or 'config'}: {error['msg']}, got {error['input']!r}"[:300]


def _nearest_key(location: str) -> str | None:
    """A neighbour of nearly the same name, else such a key of any section, else what looks most like the whole."""
    known = _known_keys()
    section, _, leaf = location.rpartition(".")
    neighbours = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
    anywhere = {k.rpartition(".")[2]: k for k in known}
    for keys in (neighbours, anywhere):
        if near := difflib.get_close_matches(leaf, keys, n=1):
            return keys[near[0]]
    return next(iter(difflib.get_close_matches(location, known, n=1, cutoff=0.5)), None)


def _known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        for kind in getattr(field.annotation, "__args__", (field.annotation,)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _known_keys(kind, f"{prefix}{name}.")
    return keys

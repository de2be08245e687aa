"""The whole config of a run, and how its sections agree."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from srpo_fast.config.presets import PRESETS, ObjectiveName
from srpo_fast.config.section import Fraction, Momentum, Positive, Rate, Section
from srpo_fast.config.stage_1 import ColdStartConfig, ReflectionConfig
from srpo_fast.config.stage_2 import AdvantageConfig, LossConfig, RewardConfig, RolloutConfig


class RunConfig(Section):
    dir: Path
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    resume: Literal["auto", "never"] = "auto"
    max_quiet_minutes: Rate = 60.0  # without progress, in any phase; longer is a hang, and an error


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
    sequence_parallel: bool = False  # tp ranks also share the rows between their matrix products; one has none to share
    distributed_optimizer: bool = False  # dp ranks share the optimizer's state

    @model_validator(mode="after")
    def _fit(self) -> "ParallelConfig":
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


class OptimizerConfig(Section):
    lr: Rate = 1e-6
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay_share: Fraction = 0.0  # of the steps, at the end, over which the rate falls to zero
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    grad_clip: Rate = 1.0
    updates_per_step: Positive = 1
    tokens_per_micro_batch: Positive = 16_384
    share_prompts: bool = False  # a prompt's tokens are computed once for all its completions in a micro-batch
    # what it keeps, in bytes a parameter: masters 4 or 2, moments 8 or 4; gradients are fp32 in any case
    master_weights: Literal["full", "remainder"] = "full"  # in fp32, or the 16 bits that bf16 weights lack: as exact
    moments: Literal["float32", "bfloat16"] = "float32"  # bfloat16: rounded up or down by chance, right on average
    offload: bool = False  # all of that is on the host between updates, and comes to the GPU in slices

    @property
    def is_economical(self) -> bool:
        """Whether anything is kept in another way than Megatron does by itself."""
        return (self.master_weights, self.moments, self.offload) != ("full", "float32", False)


BenchmarkName = Literal[
    "mathvista", "mathverse", "mathvision", "mmmu_pro", "olympiadbench", "wemath", "mmmu", "emma", "mmk12", "embedded"
]


class BenchmarkConfig(Section):
    """A benchmark that is measured during the run, greedily, as `srpo eval` does."""

    name: BenchmarkName
    data: Path | None = None  # a file or folder; None: from the Hugging Face hub
    split: str | None = None  # None: the benchmark's usual one
    image_root: Path | None = None  # relative image paths of that data start here; None: its folder
    limit: Positive | None = None  # the first so many items


class EvaluationConfig(Section):
    questions: Positive = 1024  # held-out, at the end of every phase
    every: Annotated[int, Field(ge=0)] = 0  # steps between validations; 0: none
    validation_questions: Positive = 256
    benchmarks: tuple[BenchmarkConfig, ...] = ()  # measured with every validation
    keep_best: str | None = None  # a metric of validations: checkpoints/best is the checkpoint where it was greatest

    @model_validator(mode="after")
    def _agree(self) -> "EvaluationConfig":
        names = [benchmark.name for benchmark in self.benchmarks]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"expected every benchmark once, got {twice} again")
        if not self.every and (self.benchmarks or self.keep_best):
            raise ValueError("benchmarks and keep_best are for validations: set every to the steps between them")
        answers = ("acc_first", "acc_last")
        known = [f"evaluation/{name}/{answer}" for name in names for answer in answers]
        known += [f"validation/{kind}acc_{answer}" for kind in ("", "greedy_") for answer in ("first", "second")]
        if self.keep_best not in (None, *known):
            raise ValueError(f"keep_best: expected one of {', '.join(known)}, got {self.keep_best!r}")
        return self


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
        self._stage_1_is_whole()
        self._validations_are_possible()
        if self.advantage.accuracy_low > self.advantage.accuracy_high:
            raise ValueError("advantage.accuracy_low is above accuracy_high: every group would be dropped")
        if self.rollout.finish_share < 1 and self.rollout.refill_rounds:
            raise ValueError("rollout.finish_share below 1 leaves groups to the next step: set rollout.refill_rounds=0")
        if self.rollout.finish_share < 1 and self.loss.importance == "none":
            raise ValueError("rollout.finish_share below 1 trains on older weights' tokens: set loss.importance")
        if self.data.min_pixels > self.data.max_pixels:
            raise ValueError("data.min_pixels is above data.max_pixels: no image would fit")
        if self.optimizer.master_weights == "remainder" and self.model.dtype != "bfloat16":
            raise ValueError(
                f"optimizer.master_weights=remainder is what bfloat16 weights lack, and model.dtype={self.model.dtype} "
                "is its own master; set model.dtype=bfloat16, or master_weights=full"
            )
        longest = self.data.max_prompt_tokens + self.rollout.max_tokens
        if self.optimizer.tokens_per_micro_batch < longest:
            raise ValueError(
                f"optimizer.tokens_per_micro_batch={self.optimizer.tokens_per_micro_batch} holds no sequence of "
                f"data.max_prompt_tokens + rollout.max_tokens = {longest}; raise it, or lower one of these"
            )
        return self

    def _validations_are_possible(self) -> None:
        evaluation, validation = self.evaluation, self.data.validation
        if evaluation.every and validation is None and not evaluation.benchmarks:
            raise ValueError(
                "evaluation.every needs questions: set data.validation, or evaluation.every=0, or evaluation.benchmarks"
            )
        metric = evaluation.keep_best or ""
        if validation is None and metric.startswith("validation/"):
            raise ValueError(f"evaluation.keep_best={metric} needs questions: set data.validation")
        if self.reward.variant == "grpo" and metric.endswith("_second"):
            raise ValueError(f"evaluation.keep_best={metric}: reward.variant=grpo gives one answer; name acc_first")

    def _stage_1_is_whole(self) -> None:
        reflection, cold_start = self.reflection, self.cold_start
        if cold_start and cold_start.data:
            if reflection:
                raise ValueError("cold_start.data takes the place of the reflection section: set reflection=null")
        elif (reflection is None) != (cold_start is None):
            raise ValueError(
                "reflection and cold_start are one stage: give both sections or neither, or cold_start.data with a file"
            )
        if reflection and reflection.answerer is None and reflection.max_tokens > self.rollout.max_tokens:
            raise ValueError("reflection.max_tokens is above rollout.max_tokens, for which the engine is built")

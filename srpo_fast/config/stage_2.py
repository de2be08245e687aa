"""Settings of stage 2: rollouts, reward, advantage and loss. The defaults are the paper's where it gives a value."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from srpo_fast.config.section import Fraction, Positive, Rate, Section


class RolloutConfig(Section):
    group_size: Annotated[int, Field(ge=2)] = 8  # advantages compare the completions of a group
    temperature: float = Field(default=1.0, gt=0.0)
    max_tokens: Positive = 2048
    max_num_seqs: Positive = 256
    weights: Literal["copy", "alias"] = "copy"  # alias: the engine's parameters are the policy's memory
    # of the engine's parameters, compared bit by bit with the policy's after a sync, in turn; after the first all are
    checked_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1 / 16
    kv_cache_gib: float = Field(default=4.0, gt=0.0)  # GiB of KV cache a rank
    # sleeps: its memory is the device's while the policy trains, so the cache and an update's activations need not fit
    # together. A step then maps it again and has torch give back what it kept of the update. Weights stay. Only on CUDA
    kv_cache: Literal["resident", "sleeps"] = "resident"
    # a step stops sampling when this share of its completions is done, and the next one goes on with the others.
    # 1: every step ends its own
    finish_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    # by_length: each engine is dealt prompts that are as long in sum, by what was learned of them. on_demand: engines
    # take the longest that is left as they have room, so a wrong guess leaves none idle; worth it where a step has more
    # completions than max_num_seqs x engines. Who samples what is then a matter of time: no run repeats bit by bit
    sharing: Literal["by_length", "on_demand"] = "by_length"
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
    malformed: Literal["parts", "zero"] = "parts"  # zero: nothing without two thinks and two answers, in paper too
    relative_tolerance: float = Field(default=0.0, ge=0.0)  # of an answer's number, as a share of the gold's
    absolute_tolerance: float = Field(default=0.0, ge=0.0)
    decimals: Annotated[int, Field(ge=0)] | Literal["gold"] | None = None  # both numbers are rounded to as many
    workers: Positive = 2  # processes a rank for symbolic comparison and for a function of the user's own
    time_limit: Rate = 5.0  # seconds for one comparison, or one call of that function
    max_error_share: Fraction = 0.02  # of a step's completions that could not be graded; more end the run
    max_flat_steps: Positive | None = 3  # steps in a row without any difference in reward that end it; None: never

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
        if self.malformed != "parts" and self.variant != "paper":
            raise ValueError(f"malformed {self.malformed} has no effect with variant {self.variant}; leave it out")
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
    mismatch_warn: Rate | None = None  # and that is told of, once; None: half of mismatch_stop

    @model_validator(mode="after")
    def _agree(self) -> "LossConfig":
        if self.dual_clip is not None and self.surrogate == "cispo":
            raise ValueError("dual_clip has no effect with surrogate cispo, whose clip_high bounds every ratio")
        if self.importance in ("icepop", "sequence_mask") and self.importance_floor >= self.importance_cap:
            raise ValueError(
                f"importance_floor ({self.importance_floor}) must be less than importance_cap ({self.importance_cap})"
            )
        if self.mismatch_warn is not None and self.mismatch_warn >= self.mismatch_stop:
            raise ValueError(
                f"mismatch_warn ({self.mismatch_warn}) must be less than mismatch_stop ({self.mismatch_stop}), "
                "which ends the run"
            )
        return self

"""One run as the estimate sees it: model, config, machine and assumptions, and the sizes that follow from them."""

import math
from dataclasses import dataclass
from typing import Literal

from srpo_fast.config import Config
from srpo_fast.estimate.assumptions import Assumptions, max_image_tokens
from srpo_fast.estimate.gpus import Gpu
from srpo_fast.estimate.layout import Layout, make_layout
from srpo_fast.model_shape import ModelShape

Recompute = Literal["none", "selective", "full"]
PACKED_SHARE = 0.95  # of a micro-batch's budget that best-fit packing fills
SPLIT_PROMPTS = 8  # of a rank at most, besides its share of whole ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    shape: ModelShape
    config: Config
    layout: Layout
    gpu: Gpu
    memory_gib: float  # of one GPU
    assumptions: Assumptions
    recompute: Recompute
    sequence_parallel: bool
    distributed_optimizer: bool
    train_vision: bool
    kl: bool  # against reference weights kept on the host
    head_chunk: int  # rows of logits that exist at a time
    host_gib: float | None = None  # memory of one machine; None: not known, and not judged

    @property
    def bytes_a_weight(self) -> int:
        return 2 if self.config.model.dtype == "bfloat16" else 4

    @property
    def completions(self) -> int:
        return self.config.data.prompts_per_step * self.config.rollout.group_size

    @property
    def trained_tokens(self) -> float:
        """Of a step, computed on one data-parallel rank."""
        a = self.assumptions
        prompts, completions = self.trained_prompts, self.completions * a.kept_share
        return (prompts * a.prompt_tokens + completions * a.completion_tokens) / self.layout.dp

    @property
    def trained_prompts(self) -> float:
        """Of a step, how often one is computed: with every completion, unless these share it."""
        shared = self.config.optimizer.share_prompts
        return self.assumptions.kept_share * (self.config.data.prompts_per_step if shared else self.completions)

    @property
    def trained_rows(self) -> float:
        """Of a step, whose log-prob is computed on one data-parallel rank."""
        return self.completions * self.assumptions.kept_share * self.assumptions.completion_tokens / self.layout.dp

    @property
    def keys_a_token(self) -> float:
        """Keys of attention, copies included: 1, or more where completions each take those of a prompt they share."""
        a = self.assumptions
        keys = self.completions * a.kept_share * (a.prompt_tokens + a.completion_tokens) / self.layout.dp
        return keys / self.trained_tokens

    @property
    def micro_batches(self) -> int:
        """Of one update on one data-parallel rank."""
        budget = self.config.optimizer.tokens_per_micro_batch * PACKED_SHARE
        return max(1, math.ceil(self.trained_tokens / self.config.optimizer.updates_per_step / budget))

    @property
    def full_micro_batch(self) -> "MicroBatchSize":
        """The largest one: the token budget full, completions at their limit after prompts of mean length."""
        limit = self.config.rollout.max_tokens
        tokens = self.config.optimizer.tokens_per_micro_batch / self.layout.cp
        a = self.assumptions
        prompt = a.prompt_tokens * self.trained_prompts / (self.completions * a.kept_share)  # of one completion
        return MicroBatchSize(
            tokens=tokens, loss_rows=tokens * limit / (limit + prompt), padded_tokens=tokens * self.keys_a_token
        )

    @property
    def prompts_of_rank(self) -> float:
        """Distinct prompts in a data-parallel rank's share of a step: whole ones, and parts of some to balance.

        SPLIT_PROMPTS bounds those parts in simulated steps of 1 to 64 prompts a rank; there are not more of them than
        if every completion were dealt out by chance.
        """
        dp, prompts, group = self.layout.dp, self.config.data.prompts_per_step, self.config.rollout.group_size
        return min(prompts / dp + SPLIT_PROMPTS, prompts * (1 - (1 - 1 / dp) ** group))

    @property
    def max_patches_of_rank(self) -> float:
        """Image patches in a data-parallel rank's share of a step when every prompt has images of data.max_pixels."""
        vision = self.shape.vision
        return self.prompts_of_rank * max_image_tokens(self.config, vision) * vision.patches_a_token


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatchSize:
    tokens: float  # on one context-parallel rank
    loss_rows: float
    padded_tokens: float  # sequences times the longest: what the CPU's attention works on


def head_chunk(columns: int, *, is_cpu: bool) -> int:
    """As chunk_rows of srpo_kernels, which cannot be imported without torch."""
    least, size = (64, 24 * 2**20) if is_cpu else (4096, 512 * 2**20)
    return max(least, size // (4 * columns))


def make_job(config: Config, shape: ModelShape, gpu: Gpu, gpus: int, memory_gib: float, a: Assumptions) -> Job:
    """Raises UserError where the layout cannot be."""
    parallel = config.parallel
    layout = make_layout(
        shape.text, gpus=gpus, tp=parallel.tp, pp=parallel.pp, cp=parallel.cp, chunks=parallel.chunks_per_stage
    )  # fmt: skip
    return Job(
        shape=shape, config=config, layout=layout, gpu=gpu, memory_gib=memory_gib, assumptions=a,
        recompute=config.model.recompute,
        sequence_parallel=parallel.sequence_parallel and parallel.tp > 1,
        distributed_optimizer=parallel.distributed_optimizer,
        train_vision=config.model.train_vision,
        kl=config.loss.kl_coef > 0,
        head_chunk=head_chunk(shape.text.vocab // layout.tp, is_cpu=gpu.is_cpu),
    )  # fmt: skip

"""What an update minimises, as pure functions of one micro-batch's logits.

Normalisation is global and comes first: every loss token carries its share of the whole batch's loss (`token_weights`),
so the loss and its gradient are plain sums over micro-batches and ranks, however these are cut.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from torch import Tensor
from torch.distributed import ProcessGroup

from srpo_fast.batch import MicroBatch, TrainingSequence
from srpo_fast.config import LossConfig
from srpo_kernels.reference import (
    srpo_objective,
    vocab_parallel_token_logprobs,
    vocab_parallel_token_logprobs_and_entropy,
)

Metrics = dict[str, Tensor]
LossFunction = Callable[[MicroBatch, Tensor, "Head"], tuple[Tensor, Metrics]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where this rank's logits [R, V_tp] lie in the vocabulary, and what sampling did to them."""

    vocab_start: int
    group: ProcessGroup | None  # tensor-parallel; None: the vocabulary is whole
    banned_ids: Tensor  # [B] int64, never sampled; a token that the engine gives -100
    temperature: float


def token_weights(lengths: list[int], normalizer: str) -> list[float]:
    """One weight a sequence for each of its loss tokens; over all tokens of all sequences they sum to 1.

    completion: 1 / (N * L_i), the mean over completions of their token means (GRPO).
    token: 1 / sum(L), the mean over all tokens (DAPO).
    """
    if normalizer == "token":
        return [1.0 / sum(lengths)] * len(lengths)
    return [1.0 / (len(lengths) * max(1, length)) for length in lengths]


def srpo_loss(settings: LossConfig) -> LossFunction:
    """The clipped surrogate of GRPO (paper eq 2), importance-corrected for the engine's own log-probs."""
    return partial(_srpo_loss, settings)


def _srpo_loss(settings: LossConfig, batch: MicroBatch, logits: Tensor, head: Head) -> tuple[Tensor, Metrics]:
    logprobs, entropy = vocab_parallel_token_logprobs_and_entropy(logits, batch.labels, **_options(head))
    loss, metrics = srpo_objective(
        logprobs,
        logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs,
        batch.rollout_logprobs,
        batch.advantages,
        batch.token_weights,
        clip_low=settings.clip_low,
        clip_high=settings.clip_high,
        importance_cap=settings.importance_cap,
    )
    return loss, metrics | {"loss": loss.detach().clone(), "entropy": (entropy * (batch.token_weights > 0)).sum()}


def supervised_loss(batch: MicroBatch, logits: Tensor, head: Head) -> tuple[Tensor, Metrics]:
    """Next-token cross-entropy (paper eq 1), whatever the temperature of sampling."""
    logprobs = vocab_parallel_token_logprobs(logits, batch.labels, **_options(replace(head, temperature=1.0)))
    loss = -(logprobs * batch.token_weights).sum()
    return loss, {"loss": loss.detach().clone(), "tokens": (batch.token_weights > 0).sum().to(loss.dtype)}


def logprobs_only(batch: MicroBatch, logits: Tensor, head: Head) -> tuple[Tensor, Metrics]:
    """No loss: the log-probs of the labels, for later updates to compare with."""
    logprobs = vocab_parallel_token_logprobs(logits, batch.labels, **_options(head))
    return logprobs.new_zeros(()), {"logprobs": logprobs}


def _options(head: Head) -> dict[str, Any]:
    return {field.name: getattr(head, field.name) for field in fields(head)}


def with_token_weights(sequences: list[TrainingSequence], normalizer: str) -> list[TrainingSequence]:
    """The sequences of one update with their shares of its loss."""
    weights = token_weights([sum(s.loss_mask) for s in sequences], normalizer)
    return [replace(s, token_weight=weight) for s, weight in zip(sequences, weights, strict=True)]

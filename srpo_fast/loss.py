"""What an update minimises, as pure functions of one micro-batch's hidden states and the head.

Normalisation is global and comes first: every loss token carries its share of the whole batch's loss (`token_weights`),
so the loss and its gradient are plain sums over micro-batches and ranks, however these are cut.

The RL objectives are critic-free: an advantage belongs to a completion, relative to its group. PPO with a value head is
out of scope: it needs a second model and its training. Use objective=bnpo, its clipped loss and token mean with the
group's mean as the baseline, and advantage.scale=batch_std where its whitened advantages are wanted.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal

from torch import Tensor
from torch.nn.functional import pad

from srpo_fast.batch import MicroBatch, TrainingSequence
from srpo_fast.config import LossConfig
from srpo_kernels import Objective, ObjectiveRows, VocabShard, cross_entropy_head, head_logprobs, srpo_head
from srpo_kernels.objective import LOG_RATIO_BOUND
from srpo_kernels.reference import live_rows

Metrics = dict[str, Tensor]  # sums over tokens, or maxima: is_maximum
Normalizer = Literal["completion", "token", "constant"]
LossFunction = Callable[[MicroBatch, Tensor, "Head"], tuple[Tensor, Metrics]]  # of hidden states [T, D]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The output layer, this rank's rows of it."""

    weight: Tensor  # [V_tp, D]
    weight_grad: Tensor | None  # [V_tp, D] fp32, where its gradient is summed; None: autograd has it, if it is wanted
    vocab: VocabShard


def token_weights(lengths: list[int], normalizer: Normalizer, max_tokens: int) -> list[float]:
    """One weight a sequence for each of its loss tokens.

    N completions of L_i loss tokens each, max_tokens the limit of sampling:

        completion  1 / (N L_i)          the mean over completions of their token means (GRPO)
        token       1 / sum_i L_i        the mean over all tokens (DAPO; BNPO with the whole update as its batch)
        constant    1 / (N max_tokens)   the mean over completions of their token sums, scaled (Dr.GRPO)

    N counts the completions of the update that the group filter kept, those of advantage 0 included: they are part of
    the mean though they have no gradient. Not counted are dropped groups and masked truncated completions. Over all
    tokens the weights sum to 1, for `constant` to the mean share of max_tokens that was used.
    """
    match normalizer:
        case "completion":
            return [1.0 / (len(lengths) * max(1, length)) for length in lengths]
        case "token":
            return [1.0 / sum(lengths)] * len(lengths)
        case "constant":
            return [1.0 / (len(lengths) * max_tokens)] * len(lengths)


def objective_of(settings: LossConfig) -> Objective:
    """The part of the settings that the loss of a token depends on."""
    return Objective(**{field.name: getattr(settings, field.name) for field in fields(Objective)})


def is_maximum(metric: str) -> bool:
    """Whether a loss's metric is a maximum over tokens, which is never negative; the others are sums."""
    return metric.endswith("_max")


def srpo_loss(objective: Objective) -> LossFunction:
    """The policy-gradient loss of srpo_kernels/objective.py (SRPO's is paper eq 2) of a micro-batch."""
    return partial(_srpo_loss, objective)


def _srpo_loss(objective: Objective, batch: MicroBatch, hidden: Tensor, head: Head) -> tuple[Tensor, Metrics]:
    rows = _objective_rows(batch)
    output = srpo_head(
        hidden, head.weight, batch.loss_rows, batch.labels, rows, objective=objective, vocab=head.vocab,
        weight_grad=head.weight_grad,
    )  # fmt: skip
    counts = live_rows(rows, objective) & (rows.token_weights != 0)
    if batch.is_fresh is not None:
        counts &= batch.is_fresh
    own = mismatch(output.logprobs if rows.old_logprobs is None else rows.old_logprobs, rows, counts)
    return output.loss, output.metrics | own | {"loss": output.loss.detach().clone()}


def mismatch(old_logprobs: Tensor, rows: ObjectiveRows, counts: Tensor) -> Metrics:
    """The engine's log-probs against the policy's, over the rows that count [R] bool.

    Tokens that older weights sampled are left out: they are meant to differ, which says nothing of the engine.
    token_mult_prob_error: the factor between the two probabilities, whichever is larger; 1 where they are equal.
    """
    difference = (old_logprobs - rows.rollout_logprobs).detach().where(counts, 0.0)
    bounded = difference.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    return {
        "fresh_tokens": counts.sum().to(difference.dtype),
        "mismatch_abs": difference.abs().sum(),
        "mismatch_max": pad(difference.abs(), (0, 1)).max(),  # of no rows at all: 0
        "mismatch_kl": (bounded.expm1() - bounded).sum(),
        "token_mult_prob_error": bounded.abs().exp().where(counts, 0.0).sum(),
    }


def trained_rows(batch: MicroBatch, objective: Objective) -> MicroBatch:
    """Without the loss rows that can have no gradient; on the host, where finding them keeps no GPU waiting."""
    return batch.with_loss_rows(live_rows(_objective_rows(batch), objective))


def _objective_rows(batch: MicroBatch) -> ObjectiveRows:
    return ObjectiveRows(**{field.name: getattr(batch, field.name) for field in fields(ObjectiveRows)})


def supervised_loss(batch: MicroBatch, hidden: Tensor, head: Head) -> tuple[Tensor, Metrics]:
    """Next-token cross-entropy (paper eq 1), whatever the temperature of sampling."""
    output = cross_entropy_head(
        hidden, head.weight, batch.loss_rows, batch.labels, batch.token_weights,
        vocab=replace(head.vocab, temperature=1.0), weight_grad=head.weight_grad,
    )  # fmt: skip
    return output.loss, output.metrics | {"loss": output.loss.detach().clone()}


def logprobs_only(batch: MicroBatch, hidden: Tensor, head: Head) -> tuple[Tensor, Metrics]:
    """No loss: the log-probs of the labels, for later updates to compare with."""
    logprobs, _ = head_logprobs(hidden, head.weight, batch.loss_rows, batch.labels, vocab=head.vocab)
    return logprobs.new_zeros(()), {"logprobs": logprobs}


def with_token_weights(
    sequences: list[TrainingSequence], normalizer: Normalizer, max_tokens: int = 0
) -> list[TrainingSequence]:
    """The sequences of one update with their shares of its loss; max_tokens is read by `constant` alone."""
    weights = token_weights([sum(s.loss_mask) for s in sequences], normalizer, max_tokens)
    return [replace(s, token_weight=weight) for s, weight in zip(sequences, weights, strict=True)]

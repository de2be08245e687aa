"""From a step's training sequences to new policy weights."""

from collections.abc import Sequence
from dataclasses import replace

from srpo_fast.batch import TrainingSequence
from srpo_fast.config import LossConfig, OptimizerConfig
from srpo_fast.loss import srpo_loss, with_token_weights
from srpo_fast.packing import PackedBatch, Packer
from srpo_fast.policy import Policy
from srpo_fast.schedule import learning_rate
from srpo_fast.sequences import without_zero_advantage
from srpo_fast.weight_sync import check_mismatch


def update_policy(
    policy: Policy, sequences: Sequence[TrainingSequence], pack: Packer, *, loss: LossConfig,
    optimizer: OptimizerConfig, step: int, steps: int,
) -> dict[str, float]:  # fmt: skip
    """Makes optimizer.updates_per_step updates; returns the step's train/ and mismatch metrics.

    A step whose groups all have advantage 0 makes none. Raises EngineMismatch, before any weight changes, when the
    engine's log-probs are not the policy's.
    """
    batches = [pack(members) for members in _updates(sequences, optimizer.updates_per_step, loss.normalizer)]
    if len(batches) > 1:  # later updates move away from the weights that sampled
        batches = [_with_old_logprobs(policy, batch) for batch in batches]
    objective = srpo_loss(loss)
    lr = learning_rate(step, steps, optimizer.lr, optimizer.warmup_steps, optimizer.decay_share)
    totals: dict[str, float] = {}
    grad_norms = []
    for batch in batches:
        sums = policy.forward_backward(batch, objective)
        if not totals:
            check_mismatch(sums["mismatch_abs"] / sums["tokens"], loss.mismatch_stop, step)
        grad_norms.append(policy.step(lr))
        totals = {key: totals.get(key, 0.0) + value for key, value in sums.items()}
    return _metrics(totals, grad_norms, lr)


def _updates(sequences: Sequence[TrainingSequence], updates: int, normalizer: str) -> list[list[TrainingSequence]]:
    """The sequences of each update, weighted, in equal consecutive parts; updates without a gradient are left out."""
    shares = [
        list(sequences[len(sequences) * i // updates : len(sequences) * (i + 1) // updates]) for i in range(updates)
    ]
    weighted = [without_zero_advantage(with_token_weights(share, normalizer)) for share in shares if share]
    return [share for share in weighted if share]


def _with_old_logprobs(policy: Policy, batch: PackedBatch) -> PackedBatch:
    old = policy.logprobs(batch)
    micro_batches = [replace(m, old_logprobs=o) for m, o in zip(batch.micro_batches, old, strict=True)]
    return replace(batch, micro_batches=tuple(micro_batches))


def _metrics(totals: dict[str, float], grad_norms: list[float], lr: float) -> dict[str, float]:
    if not totals:
        return {"train/updates": 0.0, "train/lr": lr}
    tokens = totals["tokens"]
    return {
        "train/updates": float(len(grad_norms)),
        "train/lr": lr,
        "train/loss": totals["loss"] / len(grad_norms),
        "train/loss_tokens": tokens,
        "train/entropy": totals["entropy"] / tokens,
        "train/clip_fraction": totals["clipped_tokens"] / tokens,
        "train/grad_norm": sum(grad_norms) / len(grad_norms),
        "rollout/mismatch_abs": totals["mismatch_abs"] / tokens,
        "rollout/mismatch_kl": totals["mismatch_kl"] / tokens,
    }

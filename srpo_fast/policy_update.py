"""From a step's training sequences to new policy weights."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from srpo_fast.batch import TrainingSequence
from srpo_fast.config import Config
from srpo_fast.loss import is_maximum, objective_of, srpo_loss, trained_rows, with_token_weights
from srpo_fast.monitor.run_directory import write_atomically
from srpo_fast.packing import PackedBatch, Packer
from srpo_fast.parallel import Parallel, sum_over_world
from srpo_fast.policy import NotFinite, Policy
from srpo_fast.schedule import learning_rate
from srpo_fast.sequences import without_zero_advantage
from srpo_fast.weight_sync import check_mismatch
from srpo_kernels import Objective


def start_updates(policy: Policy, config: Config) -> None:
    """What precedes the first update of stage 2: a fresh optimizer and, with a KL term, the reference policy."""
    policy.new_optimizer(config.optimizer)
    if objective_of(config.loss).needs_reference:
        policy.keep_reference()


def update_policy(
    policy: Policy, sequences: Sequence[TrainingSequence], pack: Packer, config: Config, step: int
) -> dict[str, float]:
    """Makes optimizer.updates_per_step updates; returns the step's train/ and mismatch metrics.

    A step without a group to train on, or, without KL and entropy terms, whose groups all have advantage 0, makes none.
    Raises EngineMismatch, before any weight changes, when the engine's log-probs are not the policy's, and NotFinite,
    which names the file of what the update was made of.
    """
    optimizer, objective = config.optimizer, objective_of(config.loss)
    updates = _updates(sequences, config, objective)
    packed = [_trained(pack(members), objective) for members in updates]
    batches = [_with_logprobs(policy, batch, objective, several=len(updates) > 1) for batch in packed]
    lr = learning_rate(step, config.steps, optimizer.lr, optimizer.warmup_steps, optimizer.decay_share)
    totals: dict[str, float] = {}
    grad_norms = []
    for members, batch in zip(updates, batches, strict=True):
        sums = policy.forward_backward(batch, srpo_loss(objective))
        if not totals:
            check_mismatch(sums["mismatch_abs"] / max(1.0, sums["fresh_tokens"]), config.loss.mismatch_stop, step)
        try:
            grad_norms.append(policy.step(lr))
        except NotFinite as error:
            file = config.run.dir / f"not_finite_step_{step:06d}.jsonl"
            if policy.parallel.is_main:
                write_atomically(file, "".join(map(_line, members)))
            raise NotFinite(f"{error}. {file} has the {len(members)} completions it came from") from error
        totals = {key: _combined(key, totals.get(key, 0.0), value) for key, value in sums.items()}
    return _metrics(totals, grad_norms, lr) | {"train/computed_tokens": _computed_tokens(batches, policy.parallel)}


def _line(sequence: TrainingSequence) -> str:
    """JSON, but for NaN and Infinity as Python writes them: they are what one looks for."""
    record = {
        "id": sequence.prompt.question.id,
        "advantage": sequence.advantage,
        "token_weight": sequence.token_weight,
        "prompt_ids": sequence.prompt.token_ids.tolist(),
        "completion_ids": sequence.completion_ids,
        "rollout_logprobs": sequence.rollout_logprobs,
    }
    return json.dumps(record) + "\n"


def _updates(
    sequences: Sequence[TrainingSequence], config: Config, objective: Objective
) -> list[list[TrainingSequence]]:
    """The sequences of each update, weighted, in equal consecutive parts; updates without a gradient are left out."""
    parts = config.optimizer.updates_per_step
    bounds = [len(sequences) * i // parts for i in range(parts + 1)]
    shares = [list(sequences[start:end]) for start, end in pairwise(bounds) if start < end]
    weighted = [with_token_weights(share, config.loss.normalizer, config.rollout.max_tokens) for share in shares]
    if not objective.trains_zero_advantage:
        weighted = [without_zero_advantage(share) for share in weighted]
    return [share for share in weighted if share]


def _trained(batch: PackedBatch, objective: Objective) -> PackedBatch:
    return replace(batch, micro_batches=tuple(trained_rows(m, objective) for m in batch.micro_batches))


def _with_logprobs(policy: Policy, batch: PackedBatch, objective: Objective, *, several: bool) -> PackedBatch:
    """The batch with what the loss compares with: the policy as it is now, when later updates move away from the
    weights that sampled, and the reference policy, when there is a KL term."""
    nothing: list[Tensor | None] = [None] * len(batch.micro_batches)
    old = policy.logprobs(batch) if several else nothing
    ref = policy.reference_logprobs(batch) if objective.needs_reference else nothing
    micro_batches = [
        replace(m, old_logprobs=o, ref_logprobs=r) for m, o, r in zip(batch.micro_batches, old, ref, strict=True)
    ]
    return replace(batch, micro_batches=tuple(micro_batches))


def _computed_tokens(batches: Sequence[PackedBatch], parallel: Parallel) -> float:
    """Prompt and completion tokens of all data-parallel ranks; a prompt that completions share counts once."""
    mine = sum(len(micro_batch.input_ids) for batch in batches for micro_batch in batch.micro_batches)
    alike = parallel.tp * parallel.cp * parallel.pp
    return sum_over_world({"tokens": mine / alike}, parallel)["tokens"]


def _combined(key: str, one: float, other: float) -> float:
    return max(one, other) if is_maximum(key) else one + other


def _metrics(totals: dict[str, float], grad_norms: list[float], lr: float) -> dict[str, float]:
    if not totals:
        return {"train/updates": 0.0, "train/lr": lr}
    tokens = totals["tokens"]
    fresh = max(1.0, totals["fresh_tokens"])  # older weights' tokens say nothing of the engine
    return {
        "train/updates": float(len(grad_norms)),
        "train/lr": lr,
        "train/loss": totals["loss"] / len(grad_norms),
        "train/loss_tokens": tokens,
        "train/entropy": totals["entropy"] / tokens,
        "train/clip_fraction": (totals["clipped_low"] + totals["clipped_high"]) / tokens,
        "train/clip_fraction_low": totals["clipped_low"] / tokens,
        "train/clip_fraction_high": totals["clipped_high"] / tokens,
        "train/ratio_max": totals["ratio_max"],
        **({"train/kl": totals["kl"] / tokens} if "kl" in totals else {}),
        "train/grad_norm": sum(grad_norms) / len(grad_norms),
        "rollout/mismatch_abs": totals["mismatch_abs"] / fresh,
        "rollout/mismatch_max": totals["mismatch_max"],
        "rollout/mismatch_kl": totals["mismatch_kl"] / fresh,
        "rollout/token_mult_prob_error": totals["token_mult_prob_error"] / fresh,
        "rollout/importance_masked": totals["importance_masked"] / tokens,
    }

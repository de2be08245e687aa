"""Updates of every objective for policies to agree on: off-policy, away from the reference, with all terms on."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from srpo_fast.batch import MicroBatch
from srpo_fast.loss import Normalizer, srpo_loss, with_token_weights
from srpo_fast.packing import PackedBatch
from srpo_fast.parallel import Parallel
from srpo_fast.policy import Policy
from srpo_kernels import Objective
from tests.policy_case import gradients_of, make_sequences, packer

MAX_TOKENS = 48
OBJECTIVES: dict[str, tuple[Objective, Normalizer]] = {
    "grpo": (Objective(importance="truncate", importance_cap=1.05), "completion"),
    "dapo": (Objective(clip_low=0.2, clip_high=0.28, dual_clip=3.0, entropy_coef=0.01), "token"),
    "dr_grpo": (Objective(kl_coef=0.1), "constant"),
    "gspo": (
        Objective(
            ratio="sequence", clip_low=0.01, clip_high=0.01, kl="k2", kl_coef=0.05, entropy_coef=0.02,
            importance="sequence_mask", importance_floor=0.9, importance_cap=1.11,
        ),
        "completion",
    ),
    "cispo": (
        Objective(
            surrogate="cispo", clip_low=1.0, clip_high=0.1, importance="icepop", importance_floor=0.85,
            importance_cap=1.2,
        ),
        "token",
    ),
}  # fmt: skip


@torch.no_grad()
def move_from_reference(policy: Policy) -> None:
    """Keeps the reference, then changes every weight alike on every layout."""
    policy.keep_reference()
    for parameter in policy.language_model.parameters():
        parameter.mul_(1.02)


def updates(
    policy: Policy, model_dir: Path, parallel: Parallel, tokens_per_micro_batch: int
) -> dict[str, dict[str, dict[str, Tensor] | dict[str, float]]]:
    """Metrics and gradients of an update by every objective."""
    results = {}
    for name, (objective, normalizer) in OBJECTIVES.items():
        sequences = with_token_weights(make_sequences(model_dir), normalizer, MAX_TOKENS)
        batch = _off_policy(policy, packer(model_dir, parallel, tokens_per_micro_batch)(sequences))
        metrics = policy.forward_backward(batch, srpo_loss(objective))
        results[name] = {"metrics": metrics, "gradients": gradients_of(policy)}
    return results


def _off_policy(policy: Policy, batch: PackedBatch) -> PackedBatch:
    """As if the step had begun with other weights: ratios of 0.9 to 1.2, by what a token is and where it stands."""
    rows = zip(batch.micro_batches, policy.logprobs(batch), policy.reference_logprobs(batch), strict=True)
    moved = tuple(_moved(m, now, ref) for m, now, ref in rows)
    return replace(batch, micro_batches=moved)


def _moved(m: MicroBatch, now: Tensor | None, ref: Tensor | None) -> MicroBatch:
    if now is None:  # a stage before the last
        return m
    place = torch.arange(len(m.labels)) - m.row_offsets[:-1].repeat_interleave(m.row_offsets.diff())
    old = now - 0.15 * torch.sin(m.labels + 1.7 * place) - 0.03
    return replace(m, old_logprobs=old, rollout_logprobs=old + 0.2 * torch.cos(2.3 * m.labels), ref_logprobs=ref)

"""A witness from outside: Liger's LigerFusedLinearGRPOLoss has the same values and gradients where it means the same.

It pads completions to [B, L], chunks over completions and recomputes logits. Its dual clip (delta) holds for positive
advantages too, where the clip is tighter; CISPO's bound is the ratio itself, not its distance from 1; its importance
weights come ready made. k1, k2, entropy and masks by sequences it does not have.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss
from torch import Tensor

from srpo_kernels import Objective, ObjectiveRows, VocabShard, srpo_head
from tests.ops.head_case import HeadCase, assert_agree, results

B, L, D, V = 5, 11, 16, 61
LENGTHS = (11, 4, 7, 1, 9)
CAP = 1.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    ours: Objective
    loss_type: str  # Liger's
    normalizer: str  # ours: loss.py
    liger: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "grpo": Variant(ours=Objective(clip_high=0.3), loss_type="grpo", normalizer="completion"),
    "grpo_kl": Variant(
        ours=Objective(kl_coef=0.1, clip_high=0.3), loss_type="grpo", normalizer="completion", liger={"beta": 0.1}
    ),
    "bnpo": Variant(ours=Objective(clip_high=0.3), loss_type="bnpo", normalizer="token"),
    "dapo": Variant(ours=Objective(clip_high=0.3), loss_type="dapo", normalizer="token"),
    "dapo_tis": Variant(
        ours=Objective(importance="truncate", importance_cap=CAP, clip_high=0.3), loss_type="dapo", normalizer="token"
    ),
    "dual_clip": Variant(
        ours=Objective(dual_clip=1.4, clip_high=0.3), loss_type="dapo", normalizer="token", liger={"delta": 1.4}
    ),
    "dr_grpo": Variant(
        ours=Objective(clip_high=0.3), loss_type="dr_grpo", normalizer="constant", liger={"max_completion_length": L}
    ),
    "gspo": Variant(
        ours=Objective(ratio="sequence", clip_low=0.05, clip_high=0.04), loss_type="grpo", normalizer="completion",
        liger={"importance_sampling_level": "sequence"},
    ),
    "gspo_kl_tis": Variant(
        ours=Objective(
            ratio="sequence", clip_low=0.05, clip_high=0.04, kl_coef=0.2, importance="truncate", importance_cap=CAP
        ),
        loss_type="grpo", normalizer="completion", liger={"importance_sampling_level": "sequence", "beta": 0.2},
    ),
    "cispo": Variant(
        ours=Objective(surrogate="cispo", clip_low=1.0, clip_high=0.1), loss_type="cispo", normalizer="token",
        liger={"epsilon_high": 1.1},
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Padded:
    """Completions as Liger takes them, [B, L] each."""

    hidden: Tensor  # [B, L, D]
    weight: Tensor
    labels: Tensor
    mask: Tensor  # bool
    advantages: Tensor  # [B]
    old: Tensor
    ref: Tensor
    rollout: Tensor


def make_padded() -> Padded:
    hidden, weight = torch.randn(B, L, D), torch.randn(V, D) / 4
    labels = torch.randint(V, (B, L))
    now = (hidden @ weight.T / 0.8).log_softmax(-1).gather(2, labels[..., None])[..., 0]
    return Padded(
        hidden=hidden, weight=weight, labels=labels, mask=torch.arange(L) < torch.tensor(LENGTHS)[:, None],
        advantages=torch.tensor([1.0, -0.7, 0.4, 0.9, -1.3]), old=now + 0.25 * torch.randn(B, L),
        ref=now + 0.3 * torch.randn(B, L), rollout=now + 0.05 * torch.randn(B, L),
    )  # fmt: skip


WEIGHTS = {
    "completion": [1 / (B * length) for length in LENGTHS],
    "token": [1 / sum(LENGTHS)] * B,
    "constant": [1 / (B * L)] * B,
}


def by_liger(p: Padded, variant: Variant) -> dict[str, Tensor]:
    settings = {
        "beta": 0.0, "epsilon_low": variant.ours.clip_low, "epsilon_high": variant.ours.clip_high, "temperature": 0.8,
        "loss_type": variant.loss_type, "compiled": False, "use_ref_model": variant.ours.kl_coef > 0,
        **variant.liger,
    }  # fmt: skip
    hidden, weight = p.hidden.clone().requires_grad_(), p.weight.clone().requires_grad_()
    corrected = variant.ours.importance == "truncate"
    loss, _ = LigerFusedLinearGRPOLoss(**settings)(
        hidden, weight, p.labels, p.mask.float(), p.advantages, old_per_token_logps=p.old, ref_per_token_logps=p.ref,
        vllm_is_ratio=(p.old - p.rollout).exp().clamp(max=CAP) if corrected else None,
    )  # fmt: skip
    loss.backward()
    return {"loss": loss.detach(), "dhidden": hidden.grad.view(B * L, D), "dweight": weight.grad}


def by_us(p: Padded, variant: Variant) -> dict[str, Tensor]:
    counts = torch.tensor(LENGTHS)
    rows = ObjectiveRows(
        rollout_logprobs=p.rollout[p.mask], advantages=p.advantages.repeat_interleave(counts),
        token_weights=torch.tensor(WEIGHTS[variant.normalizer]).repeat_interleave(counts),
        row_offsets=torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int(), old_logprobs=p.old[p.mask],
        ref_logprobs=p.ref[p.mask],
    )  # fmt: skip
    case = HeadCase(
        hidden=p.hidden.view(B * L, D), weight=p.weight, loss_rows=p.mask.flatten().nonzero().flatten(),
        labels=p.labels[p.mask], rows=rows, vocab=VocabShard(temperature=0.8),
    )  # fmt: skip
    found = results(
        lambda hidden, weight: srpo_head(
            hidden, weight, case.loss_rows, case.labels, rows, objective=variant.ours, vocab=case.vocab
        ),
        case,
    )
    assert found["metric clipped_high"] > 0
    return {name: found[name] for name in ("loss", "dhidden", "dweight")}


@pytest.mark.parametrize("name", VARIANTS)
def test_ligers_loss_and_gradients(name):
    padded = make_padded()
    # fp32 on both sides
    assert_agree(by_us(padded, VARIANTS[name]), by_liger(padded, VARIANTS[name]), rtol=2e-5, atol=1e-6)

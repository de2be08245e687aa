"""A second witness of the objective: Liger's Triton GRPO loss, for what both can do, from logits to their gradients."""

import pytest
import torch
from torch import Tensor

from srpo_kernels import Objective, triton_rows
from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.reference import Distribution
from srpo_kernels.vocab_shard import VocabShard

B, L, V = 3, 5, 300
TEMPERATURE = 0.9
OBJECTIVES = {
    "grpo": Objective(),
    "dapo_kl_dual_clip": Objective(clip_low=0.2, clip_high=0.28, dual_clip=1.4, kl_coef=0.1),
    "grpo_truncate": Objective(importance="truncate", importance_cap=1.1),
    "cispo_kl": Objective(surrogate="cispo", clip_low=1.0, clip_high=0.1, kl_coef=0.05),
}


def ligers(logits: Tensor, labels: Tensor, rows: ObjectiveRows, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, gradient [B * L, V] and how many tokens are clipped; logits [B, L + 1, V], whose last row is not used."""
    from liger_kernel.ops.grpo_loss import GrpoLossFunction

    logits = logits.clone().requires_grad_()
    bounded = objective.surrogate == "clipped"
    high = objective.clip_high if bounded else 1 + objective.clip_high
    correction = (rows.old_logprobs - rows.rollout_logprobs).exp().clamp(max=objective.importance_cap).view(B, L)
    losses, _, clipped = GrpoLossFunction.apply(
        logits, rows.old_logprobs.view(B, L), rows.ref_logprobs.view(B, L), labels.view(B, L),
        rows.advantages.view(B, L)[:, 0].contiguous(), torch.ones(B, L), TEMPERATURE, objective.kl_coef,
        objective.clip_low, high, False, "grpo" if bounded else "cispo", None, False, "token", 1.0, 1.05,
        correction if objective.importance == "truncate" else None, objective.dual_clip,
    )  # fmt: skip
    loss = (losses * rows.token_weights.view(B, L)).sum()
    loss.backward()
    return loss.detach(), logits.grad[:, :-1].reshape(B * L, V), clipped.sum()


def ours(logits: Tensor, labels: Tensor, rows: ObjectiveRows, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    flat = logits[:, :-1].reshape(B * L, V)
    vocab = VocabShard(temperature=TEMPERATURE)
    terms = triton_rows.objective_rows(
        triton_rows.row_statistics(flat, labels, vocab=vocab)[None], rows, objective=objective
    )
    found = Distribution(logprobs=terms.logprobs, entropy=terms.entropy, log_normalizer=terms.log_normalizer)
    gradient = triton_rows.row_gradient(flat, labels, found, terms.dlogprobs, None, vocab=vocab, dtype=torch.float32)
    return terms.loss, gradient, terms.metrics["clipped_low"] + terms.metrics["clipped_high"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_liger_finds_the_same_loss_and_gradient(launched, name):
    logits, labels = 3 * torch.randn(B, L + 1, V), torch.randint(V, (B * L,))
    logprobs = (logits[:, :-1] / TEMPERATURE).log_softmax(-1).reshape(B * L, V).gather(1, labels[:, None]).squeeze(1)
    rows = ObjectiveRows(
        rollout_logprobs=logprobs + 0.3 * torch.randn(B * L), old_logprobs=logprobs + 0.3 * torch.randn(B * L),
        ref_logprobs=logprobs + 0.3 * torch.randn(B * L), token_weights=torch.rand(B * L) + 0.1,
        advantages=torch.tensor([1.3, -0.7, -1.9]).repeat_interleave(L),
        row_offsets=torch.arange(0, B * L + 1, L, dtype=torch.int32),
    )  # fmt: skip
    expected = launched(ligers, logits, labels, rows, OBJECTIVES[name])
    got = launched(ours, logits, labels, rows, OBJECTIVES[name])
    torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-6)  # both fp32
    if name in ("grpo", "grpo_truncate"):  # Liger counts no dual clip, and of CISPO's clip only positive advantages
        assert got[2] == expected[2]
        assert got[2] > 0

import math

import pytest
import torch

from srpo_kernels import srpo_objective

CLIPS = {"clip_low": 0.2, "clip_high": 0.3}


def objective(logprobs, old, rollout, advantages, weights, importance_cap=2.0, **clips):
    tensors = [torch.as_tensor(x, dtype=torch.float64) for x in (old, rollout, advantages, weights)]
    return srpo_objective(logprobs, *tensors, **(clips or CLIPS), importance_cap=importance_cap)


def test_hand_computed_tokens():
    # ratios 1.5 (clipped to 1.3), 0.5 (clipped to 0.8), 0.5 with A > 0 and 1.5 with A < 0 (never clipped)
    ratios = torch.tensor([1.5, 0.5, 0.5, 1.5], dtype=torch.float64)
    logprobs = ratios.log().requires_grad_()
    weights = [0.1, 0.2, 0.3, 0.4]
    loss, metrics = objective(logprobs, [0.0] * 4, [0.0] * 4, [1.0, -1.0, 1.0, -1.0], weights)
    loss.backward()
    assert loss.item() == pytest.approx(-(0.1 * 1.3 - 0.2 * 0.8 + 0.3 * 0.5 - 0.4 * 1.5))
    assert logprobs.grad.tolist() == pytest.approx([0.0, 0.0, -0.3 * 0.5, 0.4 * 1.5])
    assert metrics["clipped_tokens"].item() == 2
    assert metrics["tokens"].item() == 4


def test_first_update_has_minus_the_advantages_as_loss_and_gradient():
    logprobs = torch.randn(6, dtype=torch.float64, requires_grad=True)
    advantages = torch.randn(6, dtype=torch.float64)
    loss, metrics = srpo_objective(
        logprobs, logprobs, logprobs.detach(), advantages, torch.full((6,), 1 / 6), **CLIPS, importance_cap=2.0
    )
    loss.backward()
    assert loss.item() == pytest.approx(-advantages.mean().item(), abs=1e-7)
    torch.testing.assert_close(logprobs.grad, -advantages / 6, atol=1e-7, rtol=0)
    assert metrics["clipped_tokens"].item() == 0


def test_importance_weight_is_truncated_and_has_no_gradient():
    rollout = [math.log(0.5), math.log(0.05), math.log(2.0)]  # old / rollout = 2, 20 and 0.5
    old = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    logprobs = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rest = [torch.tensor(x, dtype=torch.float64) for x in (rollout, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0])]
    loss, _ = srpo_objective(logprobs, old, *rest, **CLIPS, importance_cap=3.0)
    loss.backward()
    assert loss.item() == pytest.approx(-(2 + 3 + 0.5))
    assert logprobs.grad.tolist() == pytest.approx([-2, -3, -0.5])
    assert old.grad is None


def test_without_a_cap_the_engine_is_taken_at_its_word():
    logprobs = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    loss, metrics = objective(logprobs, [0.0, 0.0], [-1.0, 3.0], [1.0, 1.0], [0.5, 0.5], importance_cap=None)
    assert loss.item() == pytest.approx(-1)
    assert metrics["mismatch_abs"].item() == pytest.approx(4.0)


def test_mismatch_kl_is_k3_of_engine_against_old_policy():
    engine, old = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([0.5, 0.3, 0.2]).double()
    kl = (engine * (engine / old).log()).sum().item()
    per_token = [
        objective(torch.zeros(1).double(), [o.log().item()], [e.log().item()], [0.0], [1.0])[1]["mismatch_kl"].item()
        for o, e in zip(old, engine, strict=True)
    ]
    assert min(per_token) >= 0
    # in expectation over the engine's samples
    assert sum(e.item() * k for e, k in zip(engine, per_token, strict=True)) == pytest.approx(kl)


def test_rows_of_weight_zero_are_padding():
    logprobs = torch.tensor([0.0, 9.0], dtype=torch.float64)
    loss, metrics = objective(logprobs, [0.0, 1.0], [0.5, 9.0], [1.0, 1.0], [1.0, 0.0])
    alone_loss, alone = objective(logprobs[:1], [0.0], [0.5], [1.0], [1.0])
    assert loss == alone_loss
    assert metrics == alone


def test_loss_and_metrics_add_up_over_micro_batches():
    columns = torch.randn(5, 40)
    logprobs, old, rollout, advantages, weights = columns[0], columns[1], columns[2], columns[3], columns[4].abs()
    whole_loss, whole = srpo_objective(logprobs, old, rollout, advantages, weights, **CLIPS, importance_cap=2.0)
    parts = [
        srpo_objective(*(c[rows] for c in (logprobs, old, rollout, advantages, weights)), **CLIPS, importance_cap=2.0)
        for rows in (slice(0, 7), slice(7, 40))
    ]
    assert sum(loss.item() for loss, _ in parts) == pytest.approx(whole_loss.item(), rel=1e-5)
    for name, total in whole.items():
        assert sum(metrics[name].item() for _, metrics in parts) == pytest.approx(total.item(), rel=1e-5), name

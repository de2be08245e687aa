"""Every variant of the objective against values worked out by hand, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srpo_kernels import Objective, srpo_objective
from srpo_kernels.objective import LOG_RATIO_BOUND

CLIPPED = Objective(clip_low=0.2, clip_high=0.3)
CISPO = Objective(surrogate="cispo", clip_low=0.2, clip_high=0.3)
SEQUENCE = Objective(ratio="sequence", clip_low=0.2, clip_high=0.3)
K3 = Objective(kl="k3", kl_coef=0.5)
ENTROPY = Objective(entropy_coef=0.1)

VARIANTS = [
    CLIPPED,
    replace(CLIPPED, dual_clip=3.0),
    replace(CLIPPED, importance="truncate", importance_cap=1.05),
    replace(CLIPPED, importance="icepop", importance_floor=0.8, importance_cap=1.2),
    replace(CLIPPED, importance="sequence_mask", importance_floor=0.97, importance_cap=1.1),
    CISPO,
    SEQUENCE,
    replace(SEQUENCE, surrogate="cispo", kl="k1", kl_coef=0.3, entropy_coef=0.1),
    replace(CLIPPED, kl="k1", kl_coef=0.3),
    replace(CLIPPED, kl="k2", kl_coef=0.3),
    replace(CLIPPED, kl="k3", kl_coef=0.3, entropy_coef=0.2),
]


def named(objective: Objective) -> str:
    return "-".join(str(getattr(objective, n)) for n in ("ratio", "surrogate", "importance", "kl", "kl_coef"))


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def evaluate(
    objective: Objective, logprobs, *, old=None, rollout=None, advantages=None, weights=None, offsets=None, ref=None,
    entropy=None,
):  # fmt: skip
    """Loss, gradient in the log-probs and metrics; what is not given is neutral: one sequence, A = 1, weights 1."""
    logprobs = torch.as_tensor(logprobs, dtype=torch.float64).clone().requires_grad_()
    rows = len(logprobs)

    def column(values, default: float) -> Tensor:
        return torch.as_tensor([default] * rows if values is None else values, dtype=torch.float64)

    old = column(old, 0.0)
    loss, metrics = srpo_objective(
        logprobs,
        old,
        old if rollout is None else column(rollout, 0.0),
        column(advantages, 1.0),
        column(weights, 1.0),
        objective=objective,
        row_offsets=torch.tensor([0, rows] if offsets is None else offsets, dtype=torch.int32),
        ref_logprobs=None if ref is None else column(ref, 0.0),
        entropy=entropy,
    )
    loss.backward()
    assert logprobs.grad is not None
    return loss.item(), logprobs.grad.tolist(), {name: value.item() for name, value in metrics.items()}


# --- surrogates ---


def test_hand_computed_tokens():
    # ratios 1.5 (clipped to 1.3), 0.5 (clipped to 0.8), 0.5 with A > 0 and 1.5 with A < 0 (never clipped)
    loss, gradient, metrics = evaluate(
        CLIPPED, f64(1.5, 0.5, 0.5, 1.5).log(), advantages=[1.0, -1.0, 1.0, -1.0], weights=[0.1, 0.2, 0.3, 0.4]
    )
    assert loss == pytest.approx(-(0.1 * 1.3 - 0.2 * 0.8 + 0.3 * 0.5 - 0.4 * 1.5))
    assert gradient == pytest.approx([0.0, 0.0, -0.3 * 0.5, 0.4 * 1.5])
    assert (metrics["tokens"], metrics["clipped_low"], metrics["clipped_high"]) == (4, 1, 1)
    assert metrics["ratio_max"] == pytest.approx(1.5)


def test_first_update_has_minus_the_advantages_as_loss_and_gradient():
    logprobs, advantages = torch.randn(6).double(), torch.randn(6).double()
    for objective in (CLIPPED, SEQUENCE):
        loss, gradient, metrics = evaluate(
            objective, logprobs, old=logprobs, advantages=advantages, weights=[1 / 6] * 6, offsets=[0, 6]
        )
        assert loss == pytest.approx(-advantages.mean().item())
        expected = -advantages / 6 if objective is CLIPPED else -advantages.mean().expand(6) / 6
        assert gradient == pytest.approx(expected.tolist())
        assert metrics["clipped_low"] == metrics["clipped_high"] == 0
        assert metrics["ratio_max"] == 1


@pytest.mark.parametrize(
    ("ratio", "advantage", "keeps_gradient"),
    [(1.3, 1.0, True), (1.3 + 1e-9, 1.0, False), (0.8, -1.0, True), (0.8 - 1e-9, -1.0, False)],
)
def test_a_ratio_on_the_edge_of_the_clip_still_has_its_gradient(ratio, advantage, keeps_gradient):
    # 1 + clip_high and 1 - clip_low are exact here, and so are the edges: exp(log) of them is off by one ulp at most
    objective = Objective(clip_low=1 - 0.8, clip_high=0.3)
    logprob = math.log(ratio)
    if keeps_gradient:
        logprob = math.nextafter(logprob, 0.0)
    _, gradient, metrics = evaluate(objective, [logprob], advantages=[advantage])
    assert gradient[0] == pytest.approx(-ratio * advantage if keeps_gradient else 0.0)
    assert metrics["clipped_low"] + metrics["clipped_high"] == (not keeps_gradient)


def test_dual_clip_limits_what_a_bad_token_costs():
    objective = replace(CLIPPED, dual_clip=3.0)
    # A < 0 with ratios 2.5 and 4: the floor is 3 A; A > 0 is clipped at 1.3 long before
    loss, gradient, metrics = evaluate(objective, f64(2.5, 4.0, 4.0).log(), advantages=[-2.0, -2.0, 1.0])
    assert loss == pytest.approx(2 * 2.5 + 2 * 3.0 - 1.3)
    assert gradient == pytest.approx([2 * 2.5, 0.0, 0.0])
    assert metrics["clipped_high"] == 2
    assert metrics["clipped_low"] == 0


def test_dual_clip_is_the_published_clamp_of_the_ratio():
    logprobs, advantages = 2 * torch.randn(200).double(), torch.randn(200).double()
    loss, _, _ = evaluate(replace(CLIPPED, dual_clip=3.0), logprobs, advantages=advantages)
    ratio = logprobs.exp().clamp(max=3.0)
    published = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.3) * advantages).sum()
    assert loss == pytest.approx(published.item())


def test_cispo_weighs_every_token_and_drops_none():
    # ratios 1.5 -> 1.3, 0.5 -> 0.8, 1.1: weights without gradient, times A log p
    logprobs = f64(1.5, 0.5, 1.1).log()
    loss, gradient, metrics = evaluate(CISPO, logprobs, advantages=[1.0, -1.0, 2.0], weights=[0.1, 0.2, 0.3])
    weights = [0.1 * 1.3, 0.2 * 0.8 * -1, 0.3 * 1.1 * 2]
    assert loss == pytest.approx(-sum(w * x for w, x in zip(weights, logprobs.tolist(), strict=True)))
    assert gradient == pytest.approx([-w for w in weights])
    assert (metrics["clipped_low"], metrics["clipped_high"]) == (1, 1)


def test_cispo_without_a_lower_bound_only_cuts_large_ratios():
    objective = Objective(surrogate="cispo", clip_low=1.0, clip_high=4.0)
    _, gradient, metrics = evaluate(objective, f64(1e-3, 4.9, 50.0).log())
    assert gradient == pytest.approx([-1e-3, -4.9, -5.0])
    assert (metrics["clipped_low"], metrics["clipped_high"]) == (0, 1)


def test_cispo_with_everything_else_on_by_hand():
    objective = Objective(
        surrogate="cispo", clip_low=0.2, clip_high=0.3, kl="k2", kl_coef=0.5, importance="truncate", importance_cap=2.0
    )
    # ratio 1.5 -> 1.3, policy over engine 4 -> 2, d = ref - logprobs = 0.7
    x = math.log(1.5)
    loss, gradient, _ = evaluate(
        objective, [x], rollout=[-math.log(4)], advantages=[3.0], weights=[0.1], ref=[x + 0.7]
    )  # fmt: skip
    assert loss == pytest.approx(-0.1 * 2 * 1.3 * 3 * x + 0.5 * 0.1 * 0.7**2 / 2)
    assert gradient == pytest.approx([-0.1 * 2 * 1.3 * 3 - 0.5 * 0.1 * 0.7])


# --- the sequence's ratio ---


def test_gspo_ratio_of_ragged_sequences():
    # means of log-ratios: (0.1 + 0.3) / 2 = 0.2 within 1.3; -0.4 below 0.8 with A < 0; nobody; 0.9 / 3 = 0.3 above 1.3
    logs = [0.1, 0.3, -0.4, 0.0, 0.5, 0.4]
    loss, gradient, metrics = evaluate(
        SEQUENCE, logs, advantages=[2.0, 2.0, -1.0, 1.0, 1.0, 1.0], weights=[1 / 4] * 2 + [1 / 2] + [1 / 6] * 3,
        offsets=[0, 2, 3, 3, 6],
    )  # fmt: skip
    assert loss == pytest.approx(-(0.5 * 2 * math.exp(0.2) - 0.5 * 0.8 + 0.5 * 1.3))
    # d exp(mean)/d log p_t = ratio / L, the same for every token of the sequence; the others are clipped
    assert gradient == pytest.approx([-0.5 * 2 * math.exp(0.2) / 2] * 2 + [0.0] * 4)
    assert (metrics["clipped_low"], metrics["clipped_high"], metrics["tokens"]) == (1, 3, 6)
    assert metrics["ratio_max"] == pytest.approx(math.exp(0.3))


def test_a_sequence_of_one_token_has_the_ratio_of_the_token():
    logs, advantages = torch.randn(5), torch.randn(5)
    token = evaluate(CLIPPED, logs, advantages=advantages, offsets=range(6))
    assert evaluate(SEQUENCE, logs, advantages=advantages, offsets=range(6)) == token


def test_offsets_that_do_not_cover_the_rows_are_refused():
    with pytest.raises(RuntimeError):
        evaluate(SEQUENCE, [0.0, 0.0, 0.0], offsets=[0, 2])


# --- KL, entropy ---


@pytest.mark.parametrize(
    ("kl", "value", "slope"),
    [
        ("k1", lambda d: -d, lambda d: 1.0),
        ("k2", lambda d: d * d / 2, lambda d: -d),
        ("k3", lambda d: math.exp(d) - 1 - d, lambda d: 1 - math.exp(d)),
    ],
)
def test_kl_estimates_by_hand(kl, value, slope):
    # with advantage 0 nothing else is left; d = ref - logprobs
    distances, weights = [0.7, -0.4, 0.0], [0.1, 0.2, 0.3]
    loss, gradient, metrics = evaluate(
        Objective(kl=kl, kl_coef=0.5), [-1.0] * 3, old=[-1.0] * 3, advantages=[0.0] * 3, weights=weights,
        ref=[d - 1.0 for d in distances],
    )  # fmt: skip
    assert loss == pytest.approx(0.5 * sum(w * value(d) for w, d in zip(weights, distances, strict=True)))
    assert gradient == pytest.approx([0.5 * w * slope(d) for w, d in zip(weights, distances, strict=True)])
    assert metrics["kl"] == pytest.approx(sum(value(d) for d in distances))


@pytest.mark.parametrize("kl", ["k1", "k2", "k3"])
def test_at_the_reference_the_kl_is_exactly_zero(kl):
    logprobs = torch.randn(9)
    _, _, metrics = evaluate(Objective(kl=kl, kl_coef=1.0), logprobs, old=logprobs, ref=logprobs)
    assert metrics["kl"] == 0


def test_k1_and_k3_estimate_the_kl_of_the_policy_from_the_reference():
    policy, reference = f64(0.5, 0.3, 0.2), f64(0.4, 0.4, 0.2)
    kl = (policy * (policy / reference).log()).sum().item()
    for estimator in ("k1", "k3"):
        per_token = [
            evaluate(Objective(kl=estimator, kl_coef=1.0), [p], ref=[r])[2]["kl"]
            for p, r in zip(policy.log().tolist(), reference.log().tolist(), strict=True)
        ]
        assert (policy * f64(*per_token)).sum().item() == pytest.approx(kl)


def test_the_entropy_bonus_rewards_entropy():
    entropy = f64(0.5, 2.0).requires_grad_()
    loss, _, metrics = evaluate(ENTROPY, [0.0, 0.0], advantages=[0.0, 0.0], weights=[0.25, 0.5], entropy=entropy)
    assert loss == pytest.approx(-0.1 * (0.25 * 0.5 + 0.5 * 2.0))
    assert entropy.grad is not None
    assert entropy.grad.tolist() == pytest.approx([-0.025, -0.05])
    assert metrics["entropy"] == pytest.approx(2.5)


def test_only_kl_and_entropy_give_a_token_without_advantage_a_gradient():
    assert not CLIPPED.trains_zero_advantage
    assert not CISPO.trains_zero_advantage
    assert K3.trains_zero_advantage
    assert K3.needs_reference
    assert ENTROPY.trains_zero_advantage
    assert not ENTROPY.needs_reference


def test_what_an_objective_needs_must_be_given():
    with pytest.raises(ValueError, match=r"kl_coef=0\.5 needs ref_logprobs"):
        evaluate(K3, [0.0])
    with pytest.raises(ValueError, match=r"entropy_coef=0\.1 needs entropy"):
        evaluate(ENTROPY, [0.0])


# --- correction for the engine ---


def test_truncation_by_hand_and_without_gradient():
    rollout = f64(0.5, 0.05, 2.0).log()  # policy over engine: 2, 20 and 0.5
    objective = replace(CLIPPED, importance="truncate", importance_cap=3.0)
    loss, gradient, metrics = evaluate(objective, [0.0] * 3, rollout=rollout)
    assert loss == pytest.approx(-(2 + 3 + 0.5))
    assert gradient == pytest.approx([-2, -3, -0.5])
    assert metrics["importance_masked"] == 0


def test_icepop_masks_tokens_on_both_sides():
    rollout = f64(0.5, 0.05, 2.0, 10.0, 1 / 3).log()  # policy over engine: 2, 20, 0.5, 0.1 and 3
    objective = replace(CLIPPED, importance="icepop", importance_floor=0.5 - 1e-12, importance_cap=3.0 + 1e-12)
    loss, gradient, metrics = evaluate(objective, [0.0] * 5, rollout=rollout)
    assert loss == pytest.approx(-(2 + 0.5 + 3))
    assert gradient == pytest.approx([-2, 0, -0.5, 0, -3])
    assert metrics["importance_masked"] == 2


def test_the_sequence_mask_keeps_or_drops_whole_sequences():
    # geometric means of policy over engine: sqrt(4 * 0.25) = 1, 3, 0.2
    rollout = f64(1 / 4, 4, 1 / 3, 1 / 3, 5).log()
    objective = replace(CLIPPED, importance="sequence_mask", importance_floor=0.5, importance_cap=2.0)
    _, gradient, metrics = evaluate(objective, [0.0] * 5, rollout=rollout, offsets=[0, 2, 4, 5])
    assert gradient == pytest.approx([-1, -1, 0, 0, 0])
    assert metrics["importance_masked"] == 3


def test_a_masked_token_keeps_its_kl():
    objective = replace(K3, importance="icepop", importance_floor=0.5, importance_cap=2.0)
    loss, _, _ = evaluate(objective, [0.0], rollout=[-5.0], ref=[1.0])
    assert loss == pytest.approx(0.5 * (math.e - 2))


def test_without_a_correction_the_engine_is_taken_at_its_word():
    loss, _, metrics = evaluate(CLIPPED, [0.0, 0.0], rollout=[-1.0, 3.0], weights=[0.5, 0.5])
    assert loss == pytest.approx(-1)
    assert metrics["mismatch_abs"] == pytest.approx(4.0)


def test_mismatch_kl_is_k3_of_engine_against_old_policy():
    engine, old = f64(0.7, 0.2, 0.1), f64(0.5, 0.3, 0.2)
    kl = (engine * (engine / old).log()).sum().item()
    per_token = [
        evaluate(CLIPPED, [0.0], old=[o], rollout=[e])[2]["mismatch_kl"]
        for o, e in zip(old.log().tolist(), engine.log().tolist(), strict=True)
    ]
    assert min(per_token) >= 0
    # in expectation over the engine's samples
    assert (engine * f64(*per_token)).sum().item() == pytest.approx(kl)


# --- all of them ---


def columns(rows: int) -> dict[str, Tensor]:
    names = ("old", "rollout", "advantages", "weights", "ref")
    values = {name: 0.3 * torch.randn(rows).double() for name in names}
    return values | {"weights": values["weights"].abs() + 0.1, "advantages": 3 * values["advantages"]}


# the weight of cispo has no gradient by definition, so its loss has other differences
@pytest.mark.parametrize("objective", [o for o in VARIANTS if o.surrogate == "clipped"], ids=named)
def test_gradients_are_those_of_finite_differences(objective):
    given, offsets = columns(12), torch.tensor([0, 5, 6, 12])
    logprobs = (0.3 * torch.randn(12).double()).requires_grad_()
    entropy = torch.rand(12).double().requires_grad_()

    def loss(x: Tensor, h: Tensor) -> Tensor:
        return srpo_objective(
            x, given["old"], given["rollout"], given["advantages"], given["weights"], objective=objective,
            row_offsets=offsets, ref_logprobs=given["ref"], entropy=h,
        )[0]  # fmt: skip

    assert torch.autograd.gradcheck(loss, (logprobs, entropy))


@pytest.mark.parametrize("objective", VARIANTS, ids=named)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_ratios_of_any_size_leave_loss_and_gradient_finite(objective, dtype):
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 0.0], dtype=dtype)
    logprobs = (1e4 * signs).requires_grad_()
    entropy = torch.ones(5, dtype=dtype, requires_grad=True)
    loss, metrics = srpo_objective(
        logprobs, torch.zeros(5, dtype=dtype), 1e4 * signs.flip(0), torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0]).to(dtype),
        torch.full((5,), 0.2, dtype=dtype), objective=objective, row_offsets=torch.tensor([0, 2, 5]),
        ref_logprobs=-logprobs.detach(), entropy=entropy,
    )  # fmt: skip
    loss.backward()
    assert loss.isfinite()
    assert logprobs.grad is not None
    assert logprobs.grad.isfinite().all()
    assert all(value.isfinite() for value in metrics.values())


def test_beyond_the_bound_a_ratio_is_constant():
    edge = LOG_RATIO_BOUND
    loss, gradient, _ = evaluate(CLIPPED, [edge - 1, edge + 1], advantages=[-1.0, -1.0])
    assert loss == pytest.approx(math.exp(edge - 1) + math.exp(edge))
    assert gradient == pytest.approx([math.exp(edge - 1), 0.0])


@pytest.mark.parametrize("held", [-9.0, math.nan, math.inf])
@pytest.mark.parametrize("objective", VARIANTS, ids=named)
def test_rows_of_weight_zero_count_nowhere_whatever_they_hold(objective, held):
    given, entropy = columns(4), torch.rand(4).double()
    logprobs = 0.3 * torch.randn(4).double()
    alone = evaluate(objective, logprobs, **given, offsets=[0, 1, 4], entropy=entropy)
    padded = {name: torch.cat([value, f64(0.0 if name == "weights" else held)]) for name, value in given.items()}
    loss, gradient, metrics = evaluate(
        objective, torch.cat([logprobs, f64(held)]), **padded, offsets=[0, 1, 4, 5],
        entropy=torch.cat([entropy, f64(held)]),
    )  # fmt: skip
    assert loss == pytest.approx(alone[0], abs=1e-12)
    assert gradient == pytest.approx([*alone[1], 0.0], abs=1e-12)
    assert metrics == pytest.approx(alone[2], abs=1e-12)


@pytest.mark.parametrize("objective", VARIANTS, ids=named)
def test_loss_and_metrics_add_up_over_micro_batches(objective):
    given, entropy, logprobs = columns(40), torch.rand(40).double(), 0.3 * torch.randn(40).double()
    whole, _, totals = evaluate(objective, logprobs, **given, offsets=[0, 7, 20, 40], entropy=entropy)
    parts = [
        evaluate(
            objective, logprobs[rows], **{n: v[rows] for n, v in given.items()}, offsets=offsets, entropy=entropy[rows]
        )
        for rows, offsets in ((slice(0, 7), [0, 7]), (slice(7, 40), [0, 13, 33]))
    ]
    assert sum(loss for loss, _, _ in parts) == pytest.approx(whole)
    assert max(metrics["ratio_max"] for _, _, metrics in parts) == totals.pop("ratio_max")
    for name, total in totals.items():
        assert sum(metrics[name] for _, _, metrics in parts) == pytest.approx(total, abs=1e-12), name


def test_no_rows_cost_nothing():
    loss, _, metrics = evaluate(CLIPPED, [], offsets=[0])
    assert loss == 0
    assert set(metrics.values()) == {0}

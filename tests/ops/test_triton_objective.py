"""The objective's Triton kernel against the twin in float64: terms, slopes, loss and metrics."""

from dataclasses import fields, replace

import pytest
import torch

from srpo_kernels import Objective, reference, triton_rows
from srpo_kernels.objective_rows import ObjectiveRows, ObjectiveTerms
from tests.ops.rows_case import in_float64, make_rows, make_statistics

OBJECTIVES = {
    "grpo": Objective(),
    "grpo_truncate": Objective(importance="truncate", importance_cap=1.05),
    "dapo_entropy": Objective(clip_low=0.2, clip_high=0.28, dual_clip=1.5, entropy_coef=0.01),
    "k1_icepop": Objective(kl="k1", kl_coef=0.1, importance="icepop", importance_floor=0.8, importance_cap=1.2),
    "k2": Objective(kl="k2", kl_coef=0.1, entropy_coef=0.02),
    "k3": Objective(kl="k3", kl_coef=0.1, dual_clip=3.0),
    "cispo": Objective(surrogate="cispo", clip_low=1.0, clip_high=0.1, importance="truncate", importance_cap=2.0),
    "cispo_k3": Objective(surrogate="cispo", clip_low=0.2, clip_high=0.1, kl_coef=0.2),
}


def assert_terms(got: ObjectiveTerms, expected: ObjectiveTerms) -> None:
    """fp32 log-probs are off by 2e-6 at scores near 30; slopes and sums by as much relatively."""
    for name in ("logprobs", "entropy", "log_normalizer"):
        torch.testing.assert_close(getattr(got, name).double(), getattr(expected, name), rtol=0, atol=1e-5)
    for name in ("dlogprobs", "dentropy"):
        torch.testing.assert_close(getattr(got, name).double(), getattr(expected, name), rtol=3e-5, atol=1e-7)
    torch.testing.assert_close(got.loss.double(), expected.loss, rtol=3e-5, atol=1e-6)
    assert got.metrics.keys() == expected.metrics.keys()
    for name, value in got.metrics.items():
        torch.testing.assert_close(value.double(), expected.metrics[name], rtol=1e-4, atol=2e-5, msg=name)


def both(launched, statistics, rows: ObjectiveRows, objective: Objective) -> tuple[ObjectiveTerms, ObjectiveTerms]:
    return (
        launched(triton_rows.objective_rows, statistics, rows, objective=objective),
        reference.objective_rows(statistics.double(), in_float64(rows), objective=objective),
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_the_twins(launched, name):
    statistics = make_statistics(2, 60)
    rows = make_rows(reference.merge_statistics(statistics).logprobs)
    got, expected = both(launched, statistics, rows, OBJECTIVES[name])
    assert_terms(got, expected)
    kept = rows.token_weights != 0
    assert (expected.dlogprobs[kept] != 0).any()  # the case exercises what it says
    if OBJECTIVES[name].importance != "none":
        assert (expected.metrics["importance_masked"] > 0) == (OBJECTIVES[name].importance != "truncate")


@pytest.mark.parametrize("name", ["grpo_truncate", "cispo"])
def test_the_first_update_has_ratios_of_one(launched, name):
    statistics = make_statistics(1, 30)
    rows = replace(make_rows(reference.merge_statistics(statistics).logprobs), old_logprobs=None)
    got, expected = both(launched, statistics, rows, OBJECTIVES[name])
    assert_terms(got, expected)
    assert got.metrics["ratio_max"] == 1


@pytest.mark.parametrize("ranks", [1, 4])
def test_ranks_merge_in_their_order_and_rows_in_blocks(launched, ranks):
    statistics = make_statistics(ranks, 1030)  # a block of 1,024, and 6 rows
    rows = make_rows(reference.merge_statistics(statistics).logprobs)
    assert_terms(*both(launched, statistics, rows, OBJECTIVES["dapo_entropy"]))


@pytest.mark.parametrize("surrogate", ["clipped", "cispo"])
def test_at_the_very_edge_of_the_clip_a_token_keeps_its_gradient(launched, surrogate):
    """Without room around 1, a ratio of 1 is on both edges; 2e-6 nats beside it, it is cut or not, as the sign says."""
    statistics = make_statistics(1, 6)
    logprobs = launched(
        triton_rows.objective_rows, statistics, make_rows(torch.zeros(6)), objective=Objective()
    ).logprobs
    beside = logprobs + torch.tensor([0, 0, 1, 1, -1, -1]) * 2e-6
    rows = replace(
        make_rows(logprobs), old_logprobs=beside, advantages=torch.tensor([1.0, -1, 1, -1, 1, -1]),
        token_weights=torch.ones(6), rollout_logprobs=logprobs,
    )  # fmt: skip
    objective = Objective(surrogate=surrogate, clip_low=0.0, clip_high=0.0)
    got = launched(triton_rows.objective_rows, statistics, rows, objective=objective)
    kept = [True, True, True, False, False, True] if surrogate == "clipped" else [True] * 6
    assert (got.dlogprobs != 0).tolist() == kept
    twin = reference.objective_rows(statistics, replace(rows), objective=objective)
    assert (twin.dlogprobs != 0).tolist()[:2] == kept[:2]


def test_log_ratios_beyond_the_bound_have_a_finite_loss_and_no_gradient(launched):
    statistics = make_statistics(1, 8)
    logprobs = reference.merge_statistics(statistics).logprobs
    far = torch.tensor([25.0, -25.0] * 4)
    rows = replace(
        make_rows(logprobs), old_logprobs=logprobs - far, ref_logprobs=logprobs + far, rollout_logprobs=logprobs + far,
        advantages=torch.tensor([-1.0] * 4 + [1.0] * 4),
    )  # fmt: skip
    for objective in (Objective(kl_coef=1e-9), Objective(surrogate="cispo", kl="k2", kl_coef=1e-9)):
        got, expected = both(launched, statistics, rows, objective)
        for name in ("loss", "dlogprobs"):
            torch.testing.assert_close(getattr(got, name).double(), getattr(expected, name), rtol=1e-4, atol=1e-7)
        assert (got.dlogprobs == 0).all() == (objective.surrogate == "clipped")


def test_a_mismatch_near_nothing_keeps_its_digits(launched):
    """exp(d) - 1 - d of d = 1e-4 is 5e-9: less than the rounding of exp(d)."""
    statistics = make_statistics(1, 64)
    logprobs = reference.merge_statistics(statistics).logprobs
    rows = replace(make_rows(logprobs), old_logprobs=torch.full((64,), -1e-4), rollout_logprobs=torch.zeros(64))
    got, expected = both(launched, statistics, rows, Objective())
    torch.testing.assert_close(got.metrics["mismatch_kl"].double(), expected.metrics["mismatch_kl"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["dapo_entropy", "cispo_k3"])
def test_a_row_that_is_not_a_number_shows_in_loss_and_slope(launched, name):
    statistics = make_statistics(1, 9)
    rows = make_rows(reference.merge_statistics(statistics).logprobs)
    statistics[0, 1, 3] = torch.nan
    got = launched(triton_rows.objective_rows, statistics, rows, objective=OBJECTIVES[name])
    assert got.loss.isnan()
    assert got.dlogprobs.isnan().nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("name", ["dapo_entropy", "k1_icepop", "cispo_k3"])
def test_padding_that_is_not_a_number_changes_nothing(launched, name):
    statistics = make_statistics(1, 9)
    rows = make_rows(reference.merge_statistics(statistics).logprobs)
    padding = rows.token_weights == 0
    clean = launched(triton_rows.objective_rows, statistics, rows, objective=OBJECTIVES[name])
    held = {f: getattr(rows, f).masked_fill(padding, torch.nan) for f in ("advantages", "rollout_logprobs")}
    held |= {f: getattr(rows, f).masked_fill(padding, torch.inf) for f in ("old_logprobs", "ref_logprobs")}
    got, twin = both(launched, statistics.masked_fill(padding, torch.nan), replace(rows, **held), OBJECTIVES[name])
    for terms in (got, twin):
        assert (terms.dlogprobs[padding] == 0).all()
        assert (terms.dentropy[padding] == 0).all()
        torch.testing.assert_close(terms.dlogprobs.float(), clean.dlogprobs, rtol=3e-5, atol=1e-7)
        torch.testing.assert_close(terms.loss.float(), clean.loss, rtol=3e-5, atol=1e-6)
        for metric, value in terms.metrics.items():
            torch.testing.assert_close(value.float(), clean.metrics[metric], rtol=1e-4, atol=2e-5, msg=metric)


def test_no_rows_and_rows_of_padding_alone(launched):
    empty = make_statistics(1, 1)[..., :0]
    got = launched(triton_rows.objective_rows, empty, make_rows(torch.zeros(0)), objective=OBJECTIVES["k2"])
    assert {f.name: len(getattr(got, f.name)) for f in fields(got)[:5]} == dict.fromkeys(
        ("logprobs", "entropy", "log_normalizer", "dlogprobs", "dentropy"), 0
    )
    padding = replace(make_rows(torch.zeros(3)), token_weights=torch.zeros(3))
    alone = launched(triton_rows.objective_rows, make_statistics(1, 3), padding, objective=OBJECTIVES["k2"])
    for terms in (got, alone):
        assert terms.loss == 0
        assert all(value == 0 for value in terms.metrics.values())
    assert (alone.dlogprobs == 0).all()


def test_objectives_of_sequences_are_refused():
    rows = make_rows(torch.zeros(3))
    for objective in (Objective(ratio="sequence"), Objective(importance="sequence_mask")):
        with pytest.raises(ValueError, match="objective of tokens"):
            triton_rows.objective_rows(make_statistics(1, 3), rows, objective=objective)

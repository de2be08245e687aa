"""The row gradient's Triton kernel against the twin in float64, and against autograd through the whole chain."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srpo_kernels import Objective, reference, triton_rows
from srpo_kernels.reference import Distribution
from srpo_kernels.vocab_shard import VocabShard
from tests.ops.rows_case import BANNED, make_labels, make_logits, make_rows, shards_of

WARM = VocabShard(temperature=0.7, banned_columns=BANNED)
DTYPES = {
    "fp32": (torch.float32, torch.float32, 2e-6),
    "fp32_to_bf16": (torch.float32, torch.bfloat16, 4e-3),  # half a unit in the last place of bf16
    "bf16": (torch.bfloat16, torch.bfloat16, 4e-3),
}


def in_place(logits: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, bool]:
    gradient = triton_rows.row_gradient(logits, *args, **kwargs)
    return gradient.clone(), gradient.data_ptr() == logits.data_ptr()


def distribution_of(logits: Tensor, labels: Tensor, vocab: VocabShard) -> Distribution:
    """In float64."""
    return reference.merge_statistics(reference.row_statistics(logits.double(), labels, vocab=vocab)[None])


def in_float32(found: Distribution) -> Distribution:
    return Distribution(
        logprobs=found.logprobs.float(), entropy=found.entropy.float(), log_normalizer=found.log_normalizer.float()
    )


def assert_gradient(launched, logits, labels, slopes, entropy_slopes, vocab, dtypes: str) -> None:
    _, dtype, tolerance = DTYPES[dtypes]
    found = distribution_of(logits, labels, vocab)
    expected = reference.row_gradient(
        logits.double(), labels, found, slopes.double(), None if entropy_slopes is None else entropy_slopes.double(),
        vocab=vocab, dtype=torch.float64,
    )  # fmt: skip
    got, is_in_place = launched(
        in_place, logits, labels, in_float32(found), slopes, entropy_slopes, vocab=vocab, dtype=dtype
    )
    assert is_in_place
    assert got.dtype == dtype
    # a probability carries the rounding of a score near 40 in its exponent; the rest is relative
    torch.testing.assert_close(got.double(), expected, rtol=max(tolerance, 2e-5), atol=tolerance * 1e-2)
    assert (got[(slopes == 0) & (entropy_slopes is None)] == 0).all()


@pytest.mark.parametrize("vocab", [VocabShard(), WARM], ids=["plain", "banned_and_warm"])
@pytest.mark.parametrize("with_entropy", [False, True], ids=["", "entropy"])
@pytest.mark.parametrize("dtypes", DTYPES)
def test_the_gradient_is_the_twins_in_the_storage_of_the_logits(launched, dtypes, with_entropy, vocab):
    logits, labels = make_logits(4, 1001, DTYPES[dtypes][0]), make_labels(4, 1001)
    slopes = torch.tensor([0.7, -2.0, 0.0, 1e-3])
    entropy_slopes = torch.tensor([-0.1, 0.0, 0.3, 0.2]) if with_entropy else None
    assert_gradient(launched, logits, labels, slopes, entropy_slopes, vocab, dtypes)


@pytest.mark.parametrize("dtypes", DTYPES)
def test_rows_of_several_blocks_do_not_overwrite_what_is_still_to_be_read(launched, dtypes):
    logits, labels = make_logits(2, 16384 * 2 + 5, DTYPES[dtypes][0]), make_labels(2, 16384 * 2 + 5)
    assert_gradient(launched, logits, labels, torch.tensor([0.7, -2.0]), None, VocabShard(), dtypes)


def test_rows_without_slope_are_zero_whatever_they_held(launched):
    logits, labels = make_logits(4, 40), make_labels(4, 40)
    logits[0], logits[3] = torch.nan, torch.inf
    slopes, no_slopes = torch.tensor([0.0, 1.0, -1.0, 0.0]), torch.zeros(4)
    found = in_float32(distribution_of(logits, labels, VocabShard()))
    for entropy_slopes in (None, no_slopes):
        got, _ = launched(
            in_place, logits, labels, found, slopes, entropy_slopes, vocab=VocabShard(), dtype=torch.bfloat16
        )
        assert (got[[0, 3]] == 0).all()
        assert got[[1, 2]].isfinite().all()


def test_no_rows(launched):
    logits, none = torch.zeros(0, 40), torch.zeros(0)
    found = Distribution(logprobs=none, entropy=none, log_normalizer=none)
    got, _ = launched(in_place, logits, none.long(), found, none, none, vocab=VocabShard(), dtype=torch.bfloat16)
    assert got.shape == (0, 40)


def test_a_gradient_wider_than_the_logits_is_refused():
    none = torch.zeros(3)
    with pytest.raises(ValueError, match="no wider than the logits"):
        triton_rows.row_gradient(
            torch.zeros(3, 8).bfloat16(), none.long(), Distribution(logprobs=none, entropy=none, log_normalizer=none),
            none, None, vocab=VocabShard(), dtype=torch.float32,
        )  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_statistics_objective_and_gradient_together_are_autograd(launched, ranks):
    """From logits to gradients by three kernels, columns shared by ranks, against float64 autograd of all columns."""
    n, V, temperature = 12, 80, 0.7
    logits, labels = make_logits(n, V).nan_to_num(neginf=-30.0), make_labels(n, V)
    objective = Objective(dual_clip=1.3, kl_coef=0.1, entropy_coef=0.05, importance="truncate", importance_cap=1.1)
    shards = shards_of(V, ranks, temperature, BANNED)
    parts = logits.chunk(ranks, dim=1)
    statistics = torch.stack(
        [launched(triton_rows.row_statistics, p, labels, vocab=s) for p, s in zip(parts, shards, strict=True)]
    )
    rows = make_rows(reference.merge_statistics(statistics).logprobs)
    terms = launched(triton_rows.objective_rows, statistics, rows, objective=objective)
    found = Distribution(logprobs=terms.logprobs, entropy=terms.entropy, log_normalizer=terms.log_normalizer)
    got = torch.cat(
        [
            launched(in_place, p, labels, found, terms.dlogprobs, terms.dentropy, vocab=s, dtype=torch.float32)[0]
            for p, s in zip(parts, shards, strict=True)
        ],
        dim=1,
    )
    exact = logits.double().requires_grad_()
    logprobs, entropy = reference.token_logprobs_and_entropy(
        exact, labels, vocab=replace(WARM, temperature=temperature)
    )
    loss, _ = reference.srpo_objective(
        logprobs, rows.old_logprobs.double(), rows.rollout_logprobs.double(), rows.advantages.double(),
        rows.token_weights.double(), objective=objective, row_offsets=rows.row_offsets,
        ref_logprobs=rows.ref_logprobs.double(), entropy=entropy,
    )  # fmt: skip
    loss.backward()
    torch.testing.assert_close(terms.loss.double(), loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.double(), exact.grad, rtol=1e-4, atol=1e-7)

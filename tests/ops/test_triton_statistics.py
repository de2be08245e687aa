"""Statistics of rows by Triton kernels against the twins in float64."""

import pytest
import torch
from torch import Tensor

from srpo_kernels import reference, triton_rows
from srpo_kernels.triton_rows.launches import LinearLaunch
from srpo_kernels.vocab_shard import VocabShard
from tests.ops.rows_case import BANNED, make_labels, make_logits, make_operands, statistics_by

PLAIN = VocabShard()
WARM = VocabShard(temperature=0.7, banned_columns=BANNED)
SMALL = LinearLaunch(block_rows=16, block_columns=32, block_depth=16, warps=4, stages=2, group=2)


def assert_statistics(got: Tensor, expected: Tensor) -> None:
    """[4, n]: sums of thousands of fp32 terms, of scores up to 300 whose own rounding is 1.5e-5."""
    torch.testing.assert_close(got.double(), expected, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("vocab", [PLAIN, WARM], ids=["plain", "banned_and_warm"])
@pytest.mark.parametrize(
    ("n", "V", "dtype"),
    [(3, 9001, torch.float32), (2, 8192, torch.bfloat16), (1, 31, torch.float16)],
    ids=["ragged", "whole_blocks_bf16", "one_short_row"],
)
def test_row_statistics_are_the_twins(launched, n, V, dtype, vocab):
    logits, labels = make_logits(n, V, dtype), make_labels(n, V)
    got = launched(triton_rows.row_statistics, logits, labels, vocab=vocab)
    assert_statistics(got, reference.row_statistics(logits.double(), labels, vocab=vocab))


@pytest.mark.parametrize("shift", [-200.0, 200.0])
def test_row_statistics_of_shifted_logits(launched, shift):
    logits, labels = make_logits(2, 50, shift=shift), make_labels(2, 50)
    got = launched(triton_rows.row_statistics, logits, labels, vocab=PLAIN)
    assert_statistics(got, reference.row_statistics(logits.double(), labels, vocab=PLAIN))


def test_a_row_that_begins_with_a_block_of_minus_infinity(launched):
    logits = torch.full((1, 8200), -torch.inf)
    logits[0, 8195:] = torch.tensor([1.0, -2.0, 0.5, 3.0, -150.0])
    got = launched(triton_rows.row_statistics, logits, torch.tensor([8196]), vocab=PLAIN)
    assert_statistics(got, reference.row_statistics(logits.double(), torch.tensor([8196]), vocab=PLAIN))


def test_a_logit_that_is_not_a_number_shows(launched):
    logits = make_logits(2, 40)
    logits[1, 7] = torch.nan
    got = launched(triton_rows.row_statistics, logits, make_labels(2, 40), vocab=PLAIN)
    assert got[:, 0].isfinite().all()
    assert got[1:3, 1].isnan().all()


@pytest.mark.parametrize("vocab", [PLAIN, WARM], ids=["plain", "banned_and_warm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n", "D", "V"), [(1, 64, 256), (50, 40, 1000), (150, 72, 300)])
def test_linear_statistics_are_the_twins(launched, n, D, V, dtype, vocab):
    hidden, weight = make_operands(n, D, V, dtype)
    labels = make_labels(n, V)
    got = launched(triton_rows.linear_statistics, hidden, weight, labels, vocab=vocab)
    assert_statistics(got, reference.linear_statistics(hidden.double(), weight.double(), labels, vocab=vocab))


@pytest.mark.parametrize("shift", [-200.0, 200.0])
def test_linear_statistics_of_shifted_logits(launched, shift):
    hidden, weight = make_operands(20, 40, 300, torch.bfloat16)
    hidden[:, 0], weight[:, 0] = shift / 8, 8
    labels = make_labels(20, 300)
    got = launched(triton_rows.linear_statistics, hidden, weight, labels, vocab=PLAIN)
    assert_statistics(got, reference.linear_statistics(hidden.double(), weight.double(), labels, vocab=PLAIN))


def splits_of(hidden: Tensor, weight: Tensor, launch: LinearLaunch, tiles: int) -> Tensor:
    from srpo_kernels.triton_rows.linear_statistics import split_statistics

    return split_statistics(hidden, weight, None, 1.0, launch, tiles)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_groups_and_splits_cover_rows_and_columns_once(launched, dtype):
    """90 rows in 6 tiles, 3 groups of 2; 150 columns in 5 tiles, splits of 2, 2 and 1; 3 programs."""
    hidden, weight = make_operands(90, 24, 150, dtype)
    got = launched(splits_of, hidden, weight, SMALL, 2).double()
    scores = hidden.double() @ weight.double().T
    for split, columns in zip(got, scores.split(64, dim=1), strict=True):
        top = columns.amax(1)
        mass = torch.exp2(columns - top[:, None])
        expected = torch.stack([top, mass.sum(1), (mass * (columns - top[:, None])).sum(1)])
        assert_statistics(split, expected)


def test_a_rows_statistics_do_not_depend_on_the_rows_beside_it(launched):
    hidden, weight = make_operands(90, 24, 150, torch.bfloat16)
    labels = make_labels(90, 150)
    together = launched(triton_rows.linear_statistics, hidden, weight, labels, vocab=WARM)
    alone = launched(triton_rows.linear_statistics, hidden[70:71], weight, labels[70:71], vocab=WARM)
    assert torch.equal(together[:, 70:71], alone)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_statistics_merge_to_those_of_one(launched, ranks):
    hidden, weight = make_operands(9, 40, 520, torch.bfloat16)
    labels = make_labels(9, 520)
    parts = statistics_by(
        lambda *a, **k: launched(triton_rows.linear_statistics, *a, **k), hidden, weight, labels, ranks, 0.7, BANNED
    )
    got = reference.merge_statistics(parts.double())
    exact = statistics_by(reference.linear_statistics, hidden.double(), weight.double(), labels, 1, 0.7, BANNED)
    expected = reference.merge_statistics(exact)
    torch.testing.assert_close(got.logprobs, expected.logprobs, rtol=0, atol=3e-5)
    torch.testing.assert_close(got.entropy, expected.entropy, rtol=0, atol=3e-5)
    assert ((parts[:, 3] != 0).sum(0) == 1).all()  # one rank has each label


@pytest.mark.parametrize("columns", [16, 300])
def test_no_rows(launched, columns):
    no_labels = torch.zeros(0, dtype=torch.int64)
    by_product = launched(
        triton_rows.linear_statistics, torch.zeros(0, 16), torch.ones(columns, 16), no_labels, vocab=PLAIN
    )
    assert (
        by_product.shape == launched(triton_rows.row_statistics, torch.zeros(0, columns), no_labels, vocab=PLAIN).shape
    )
    assert by_product.shape == (4, 0)


def test_operands_that_the_copy_engine_cannot_read_are_refused():
    with pytest.raises(ValueError, match="multiples of 16 bytes"):
        triton_rows.linear_statistics(torch.zeros(3, 9), torch.zeros(5, 9), torch.zeros(3), vocab=PLAIN)
    with pytest.raises(ValueError, match="of one dtype"):
        triton_rows.linear_statistics(torch.zeros(3, 8), torch.zeros(5, 8).bfloat16(), torch.zeros(3), vocab=PLAIN)
    with pytest.raises(ValueError, match="fp32, bf16 or fp16"):
        triton_rows.row_statistics(torch.zeros(3, 8).double(), torch.zeros(3), vocab=PLAIN)

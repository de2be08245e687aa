"""The C++ row operations against their twins in fp64: every instruction set this processor has, 1 to 3 threads."""

import dataclasses

import pytest
import torch

from srpo_kernels import native, native_rows, reference
from srpo_kernels.native_rows import Isa
from srpo_kernels.objective import Objective
from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.reference.head import kept_rows
from srpo_kernels.reference.rows import Distribution, merge_statistics
from srpo_kernels.vocab_shard import VocabShard

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no native library")
ISAS = [isa for isa in Isa if isa is not Isa.BEST and native_rows.has_isa(isa)]
each_isa = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)

# rows, columns: ragged, shorter than a vector, longer than a block, one row, none
SHAPES = [(5, 33), (3, 1), (4, 2_048), (7, 4_100), (1, 16), (0, 40)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def make_rows(shape, *, scale=3.0, shift=0.0, start=0):
    n, V = shape
    generator = torch.Generator().manual_seed(n * V)
    logits = torch.randn(n, V, generator=generator) * scale + shift
    labels = torch.randint(start, start + V, (n,), generator=generator)
    return logits, labels


def statistics(logits, labels, vocab, isa, threads=1):
    return torch.ops.srpo_native.row_statistics(
        logits, labels, vocab.start, vocab.temperature, vocab.banned_columns, threads, isa
    )


def assert_statistics(logits, labels, vocab, isa, threads=1):
    before = logits.clone()
    found = statistics(logits, labels, vocab, isa, threads)
    expected = reference.row_statistics(logits.double(), labels, vocab=vocab)
    # sums of at most 32 fp32 terms a lane, then fp64: a few ulp
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(logits, before)


def distribution_of(logits, labels, vocab):
    found = merge_statistics(reference.row_statistics(logits.double(), labels, vocab=vocab)[None])
    return Distribution(**{f.name: getattr(found, f.name).float() for f in dataclasses.fields(found)})


def gradient(logits, labels, distribution, dlogprobs, dentropy, vocab, isa, out, threads=1):
    torch.ops.srpo_native.row_gradient_(
        logits, labels, distribution.entropy, distribution.log_normalizer, dlogprobs, dentropy, out,
        vocab.start, vocab.temperature, vocab.banned_columns, threads, isa,
    )  # fmt: skip
    return out


def exact_gradient(logits, labels, distribution, dlogprobs, dentropy, vocab):
    exact = Distribution(**{f.name: getattr(distribution, f.name).double() for f in dataclasses.fields(distribution)})
    slopes = [None if slope is None else slope.double() for slope in (dlogprobs, dentropy)]
    return reference.row_gradient(logits.double(), labels, exact, *slopes, vocab=vocab, dtype=torch.float64)


def slopes_of(n):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, generator=generator), 0.1 * torch.randn(n, generator=generator)


VOCABS = {
    "plain": VocabShard(),
    "hot": VocabShard(temperature=1.7),
    "elsewhere": VocabShard(start=1_000, temperature=0.3),
    "banned": VocabShard(
        temperature=50.0, banned_columns=torch.tensor([9, 0, 9, 2_047, 2_048, 99_999])
    ),  # twice, and not here
}


def in_range(vocab, columns):
    """The vocabulary's banned columns that rows of so many columns have: the twin takes no others."""
    if vocab.banned_columns is None:
        return vocab
    return dataclasses.replace(vocab, banned_columns=vocab.banned_columns[vocab.banned_columns < columns])


@each_isa
def test_exp_is_right_to_one_ulp(isa):
    x = torch.linspace(-87.0, 88.0, 16 * 40_000)[1:-15].contiguous()
    out = torch.empty_like(x)
    native.library().srpo_exp(x.data_ptr(), x.numel(), out.data_ptr(), isa)
    exact = x.double().exp()
    ulp = torch.exp2(exact.log2().floor() - 23)
    assert ((out - exact) / ulp).abs().max() <= 1.0


@each_isa
def test_exp_keeps_nan_and_ends_in_zero(isa):
    x = torch.tensor([float("nan"), float("-inf"), -87.0, -1e30] * 4)
    out = torch.empty_like(x)
    native.library().srpo_exp(x.data_ptr(), x.numel(), out.data_ptr(), isa)
    assert out.isnan().tolist() == [True, False, False, False] * 4
    assert out.nan_to_num(0).tolist() == [0.0] * 16


@each_isa
@each_shape
@pytest.mark.parametrize("name", VOCABS)
def test_statistics_and_gradient_are_those_of_fp64(isa, shape, name):
    logits, labels = make_rows(shape)
    vocab = in_range(VOCABS[name], shape[1])
    assert_statistics(logits, labels, vocab, isa, threads=2)
    found, (dlogprobs, dentropy) = distribution_of(logits, labels, vocab), slopes_of(shape[0])
    exact = exact_gradient(logits, labels, found, dlogprobs, dentropy, vocab)
    out = gradient(logits, labels, found, dlogprobs, dentropy, vocab, isa, torch.empty_like(logits), threads=2)
    # |p| <= 1 and |log p + h| of some tens: fp32 rounding of each factor
    torch.testing.assert_close(out.double(), exact, rtol=2e-6, atol=1e-6)


@each_isa
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize(("scale", "shift"), [(5.0, 200.0), (5.0, -200.0), (70.0, 0.0), (0.0, -200.0)])
def test_logits_far_from_zero_and_far_apart_keep_their_digits(isa, temperature, scale, shift):
    logits, labels = make_rows((5, 2_500), scale=scale, shift=shift)
    vocab = VocabShard(temperature=temperature)
    found = statistics(logits, labels, vocab, isa).double()
    expected = reference.row_statistics(logits.double(), labels, vocab=vocab)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    found, (dlogprobs, dentropy) = distribution_of(logits, labels, vocab), slopes_of(5)
    exact = exact_gradient(logits, labels, found, dlogprobs, dentropy, vocab)
    out = gradient(logits, labels, found, dlogprobs, dentropy, vocab, isa, torch.empty_like(logits))
    torch.testing.assert_close(out.double(), exact, rtol=2e-6, atol=2e-6)


@each_isa
@pytest.mark.parametrize("rising", [1, -1])
def test_the_highest_logit_may_come_last_or_first(isa, rising):
    logits = (rising * torch.linspace(-300, 300, 9_000))[None].contiguous()
    assert_statistics(logits, torch.tensor([8_999]), VocabShard(), isa)


@each_isa
def test_minus_infinity_has_no_part_in_a_row_and_nan_spoils_only_its_own(isa):
    logits, labels = make_rows((4, 5_000))
    logits[0, :2_100] = -torch.inf  # more than a block
    logits[1, 4_990:] = -torch.inf
    labels[0] = 3  # of probability 0
    logits[2, 17] = torch.nan
    found = statistics(logits, labels, VocabShard(), isa)
    expected = reference.row_statistics(logits.double(), labels, vocab=VocabShard())
    torch.testing.assert_close(found[:, [0, 1, 3]].double(), expected[:, [0, 1, 3]], rtol=1e-6, atol=1e-6)
    assert found[1, 2].isnan()
    rows = [0, 1, 3]
    kept, names = logits[rows], labels[rows]
    distribution = distribution_of(kept, names, VocabShard())
    one, none = torch.ones(3), torch.full((3,), 0.5)
    out = gradient(kept, names, distribution, one, none, VocabShard(), isa, torch.empty_like(kept))
    exact = exact_gradient(kept, names, distribution, one, none, VocabShard())
    torch.testing.assert_close(out[1:].double(), exact[1:], rtol=2e-6, atol=1e-6)
    assert out[0].isfinite().all()
    assert out[0, 3] == 1.0


@each_isa
def test_a_peaked_row_has_the_small_gradient_it_should_have(isa):
    logits = torch.zeros(1, 3_000)
    logits[0, 7] = 22.0  # 1 - p = 8e-7: fp32 knows it to 6e-8
    labels, vocab = torch.tensor([7]), VocabShard()
    found = distribution_of(logits, labels, vocab)
    exact = exact_gradient(logits, labels, found, torch.ones(1), None, vocab)
    out = gradient(logits, labels, found, torch.ones(1), None, vocab, isa, torch.empty_like(logits))
    # the normaliser is given in fp32: 22 to 1e-6
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=1e-9)


@each_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of", [torch.float32, torch.bfloat16])
def test_strided_rows_of_either_type_and_gradients_of_either_type_in_place(isa, of, dtype):
    storage, labels = make_rows((6, 2_077))
    storage = storage.to(of)
    logits = storage[::2, :2_061]
    labels = (labels % 2_061)[::2]
    vocab, (dlogprobs, _) = VocabShard(temperature=1.3), slopes_of(3)
    assert_statistics(logits, labels, vocab, isa)
    found = distribution_of(logits, labels, vocab)
    exact = exact_gradient(logits, labels, found, dlogprobs, None, vocab)
    neighbours = storage[1::2].clone(), storage[:, 2_061:].clone()
    out = gradient(logits, labels, found, dlogprobs, None, vocab, isa, native_rows._storage_for_gradient(logits, dtype))
    ulp = 1e-6 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(out.double(), exact, rtol=ulp, atol=1e-7)
    assert torch.equal(storage[1::2], neighbours[0])
    if dtype.itemsize <= of.itemsize:
        assert out.data_ptr() == logits.data_ptr()
        assert torch.equal(storage[:, 2_061:], neighbours[1])


@each_isa
def test_rows_without_slope_are_zeroed_and_not_read(isa):
    logits, labels = make_rows((4, 2_100))
    logits[1], logits[2] = torch.nan, torch.nan
    found = Distribution(logprobs=torch.zeros(4), entropy=torch.ones(4), log_normalizer=torch.full((4,), 9.0))
    dlogprobs, dentropy = torch.tensor([1.0, 0, -0.0, 0]), torch.tensor([0.0, 0, 0, 2])
    out = gradient(logits, labels, found, dlogprobs, dentropy, VocabShard(), isa, logits)
    assert out[1:3].eq(0).all()
    assert out[0].ne(0).any()
    assert out[3].ne(0).any()


def test_threads_and_vector_instructions_do_not_change_the_bits():
    logits, labels = make_rows((9, 4_099))
    vocab = VocabShard(temperature=0.7, banned_columns=torch.tensor([5, 4_000]))
    found, (dlogprobs, dentropy) = distribution_of(logits, labels, vocab), slopes_of(9)
    results = [
        (statistics(logits, labels, vocab, isa, threads),
         gradient(logits, labels, found, dlogprobs, dentropy, vocab, isa, torch.empty_like(logits), threads))
        for isa in ISAS if isa is not Isa.PLAIN or len(ISAS) == 1
        for threads in (1, 2, 3, 64)
    ]  # fmt: skip
    for stats, grad in results[1:]:
        assert torch.equal(stats, results[0][0])
        assert torch.equal(grad, results[0][1])


def test_a_rank_with_part_of_the_columns_adds_its_part():
    logits, labels = make_rows((6, 4_000))
    whole = merge_statistics(reference.row_statistics(logits.double(), labels, vocab=VocabShard())[None])
    cuts = [(0, 1_500), (1_500, 4_000)]
    parts = [native_rows.row_statistics(logits[:, a:b], labels, vocab=VocabShard(start=a)) for a, b in cuts]
    merged = merge_statistics(torch.stack(parts))
    torch.testing.assert_close(merged.logprobs.double(), whole.logprobs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(merged.entropy.double(), whole.entropy, rtol=1e-6, atol=1e-6)


def test_the_dispatched_operations_are_native_in_place_and_keep_the_callers_types():
    logits, labels = make_rows((5, 300))
    vocab, (dlogprobs, _) = VocabShard(), slopes_of(5)
    found = merge_statistics(native_rows.row_statistics(logits, labels, vocab=vocab)[None])
    exact = exact_gradient(logits, labels, found, dlogprobs, None, vocab)
    out = native_rows.row_gradient(logits, labels, found, dlogprobs, None, vocab=vocab, dtype=torch.float32)
    assert out.data_ptr() == logits.data_ptr()
    torch.testing.assert_close(out.double(), exact, rtol=2e-6, atol=1e-6)
    doubles = torch.randn(5, 7, dtype=torch.float64)
    assert native_rows.row_statistics(doubles, torch.arange(5), vocab=vocab).dtype == torch.float64


def test_torch_knows_their_shapes_without_data():
    logits = torch.empty(5, 30, device="meta")
    found = torch.ops.srpo_native.row_statistics(logits, torch.empty(5, device="meta"), 0, 1.0, None, 1, 0)
    assert found.shape == (4, 5)
    sample, labels = make_rows((3, 40))
    torch.library.opcheck(torch.ops.srpo_native.row_statistics, (sample, labels, 0, 1.0, None, 1, 0))


@pytest.mark.skipif(len(ISAS) == len(Isa) - 1, reason="this processor has every instruction set")
def test_instructions_that_are_not_there_are_refused():
    logits, labels = make_rows((1, 16))
    with pytest.raises(AssertionError, match="this processor has no"):
        statistics(logits, labels, VocabShard(), next(isa for isa in Isa if not native_rows.has_isa(isa)))


@pytest.mark.parametrize(
    "changes", [{}, {"entropy_coef": 0.1}, {"ratio": "sequence"}, {"importance": "sequence_mask"}], ids=str
)
@pytest.mark.parametrize("lengths", [[], [4, 0, 7, 1, 8], [20]])
def test_kept_rows_are_the_twins(changes, lengths):
    objective = Objective(**changes)
    R = sum(lengths)
    generator = torch.Generator().manual_seed(R)
    weights = torch.rand(R, generator=generator) * (torch.rand(R, generator=generator) < 0.4)
    advantages = torch.randn(R, generator=generator) * (torch.rand(R, generator=generator) < 0.6)
    weights[4:11] = 0
    rows = ObjectiveRows(
        rollout_logprobs=torch.zeros(R), advantages=advantages, token_weights=weights,
        row_offsets=torch.tensor([0, *lengths]).cumsum(0).int(),
    )  # fmt: skip
    assert torch.equal(native_rows.kept_rows(rows, objective), kept_rows(rows, objective))

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import srpo_kernels
from srpo_kernels import reference

TWINS = [srpo_kernels.pack_sequences, reference.pack_sequences]
both = pytest.mark.parametrize("op", TWINS, ids=["op", "reference"])


def loads(lengths, bins):
    return torch.zeros(int(bins.max()) + 1, dtype=torch.int64).index_add(0, bins, lengths).tolist()


@both
def test_hand_packed_sequences(op):
    # 9 opens bin 0; 7 opens bin 1; 5 opens bin 2; 3 fits bin 1 exactly (fuller than bin 2); 1 fits bin 0 exactly
    assert op(torch.tensor([5, 3, 9, 1, 7]), 10).tolist() == [2, 1, 0, 0, 1]


@both
def test_equal_lengths_keep_their_order(op):
    assert op(torch.tensor([4, 4, 4, 4, 4]), 8).tolist() == [0, 0, 1, 1, 2]


@both
def test_equally_full_bins_are_filled_from_the_lowest(op):
    assert op(torch.tensor([6, 6, 6, 2]), 10).tolist() == [0, 1, 2, 0]


@both
def test_no_sequences_need_no_bins(op):
    assert op(torch.empty(0, dtype=torch.int64), 10).tolist() == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 64).flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(1, b), min_size=1))))
def test_bins_respect_the_budget_and_no_two_of_them_could_be_one(case):
    budget, sizes = case
    lengths = torch.tensor(sizes)
    bins = reference.pack_sequences(lengths, budget)
    filled = loads(lengths, bins)
    assert torch.equal(srpo_kernels.pack_sequences(lengths, budget), bins)
    assert max(filled) <= budget
    assert sum(filled) == sum(sizes)
    assert sum(sorted(filled)[:2]) > budget or len(filled) == 1


@both
@pytest.mark.parametrize(("length", "what"), [(11, "sequence 1 has 11 tokens, expected 1 to 10"), (0, "has 0 tokens")])
def test_a_sequence_that_cannot_be_packed_is_named(op, length, what):
    with pytest.raises(ValueError, match=what):
        op(torch.tensor([5, length, 3]), 10)


@both
def test_rejects_other_types(op):
    with pytest.raises(ValueError, match=r"expected lengths \[S\] int64"):
        op(torch.tensor([5, 3], dtype=torch.int32), 10)


def test_strided_lengths():
    lengths = torch.tensor([5, 99, 3, 99, 9, 99])[::2]
    assert srpo_kernels.pack_sequences(lengths, 10).tolist() == reference.pack_sequences(lengths, 10).tolist()

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srpo_fast.sampler import PromptSampler

NONE: frozenset[int] = frozenset()


def step(sampler: PromptSampler, size: int) -> list[int]:
    return sampler.take(size, NONE, NONE)


@given(num_questions=st.integers(1, 40), share=st.integers(1, 40), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_epoch_is_a_permutation(num_questions, share, seed):
    per_step = min(share, num_questions)
    sampler = PromptSampler(num_questions, seed)
    seen = [index for _ in range(3 * num_questions) for index in step(sampler, per_step)]
    assert len(seen) == 3 * num_questions * per_step
    for begin in range(0, 3 * num_questions, num_questions):
        assert sorted(seen[begin : begin + num_questions]) == list(range(num_questions))


@given(
    num_questions=st.integers(1, 12), parts=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 5)
)
@settings(max_examples=100, deadline=None)
def test_no_step_has_a_question_twice_however_it_is_drawn(num_questions, parts, seed):
    sampler = PromptSampler(num_questions, seed)
    for _ in range(30):
        in_step: set[int] = set()
        for count in parts:
            count = min(count, num_questions - len(in_step))
            taken = sampler.take(count, in_step, NONE)
            assert len(taken) == len(set(taken)) == count
            assert not in_step & set(taken)
            in_step |= set(taken)


@given(num_questions=st.integers(2, 12), seed=st.integers(0, 5), data=st.data())
@settings(max_examples=100, deadline=None)
def test_what_takes_the_place_of_a_bad_question_does_not_depend_on_when_it_was_found(num_questions, seed, data):
    bad = data.draw(st.sets(st.integers(0, num_questions - 1), max_size=num_questions - 1))
    size = data.draw(st.integers(1, num_questions - len(bad)))
    known, found = PromptSampler(num_questions, seed), PromptSampler(num_questions, seed)
    met: set[int] = set()
    for _ in range(20):
        expected = known.take(size, NONE, bad)
        got: list[int] = []
        in_step: set[int] = set()
        while len(got) < size:  # as a prompt source draws
            taken = found.take(size - len(got), in_step, met)
            in_step |= set(taken)
            met |= bad & set(taken)
            got += [index for index in taken if index not in bad]
        assert got == expected


def test_the_order_is_that_of_numpys_permutations():
    sampler, random = PromptSampler(50, 3), np.random.default_rng(3)
    assert step(sampler, 50) == random.permutation(50).tolist()
    assert step(sampler, 30) + step(sampler, 20) == random.permutation(50).tolist()


def test_epochs_and_seeds_differ():
    samplers = [PromptSampler(50, seed) for seed in (3, 4)]
    assert len({tuple(step(sampler, 50)) for sampler in samplers for _ in range(2)}) == 4


@pytest.mark.parametrize("steps", range(8))
def test_resuming_repeats_and_skips_nothing(steps):
    whole, first = PromptSampler(10, 7), PromptSampler(10, 7)
    for _ in range(steps):
        assert step(first, 3) == step(whole, 3)
    state = json.loads(json.dumps(first.state_dict()))
    resumed = PromptSampler(10, 7)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == first.state_dict()
    assert [step(resumed, 3) for _ in range(9)] == [step(whole, 3) for _ in range(9)]


@pytest.mark.parametrize("other", [PromptSampler(11, 7), PromptSampler(10, 8)])
def test_a_state_of_other_data_is_refused(other):
    with pytest.raises(ValueError, match="resume with the data and settings of the checkpoint"):
        other.load_state_dict(PromptSampler(10, 7).state_dict())


def test_a_step_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"expected 4 more questions .* got 3.*lower data\.prompts_per_step"):
        PromptSampler(3, 0).take(4, NONE, NONE)
    with pytest.raises(ValueError, match=r"expected 2 more questions for a step that has 1, got 1: of 3 .* 1 cannot"):
        PromptSampler(3, 0).take(2, {0}, {2})

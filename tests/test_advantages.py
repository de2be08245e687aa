import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srpo_fast.advantages import accuracy_filter, flat_groups, group_advantages, overlong_penalty

rewards = st.floats(-1, 2, allow_nan=False, width=32)
groups = st.integers(1, 8).flatmap(lambda size: st.lists(st.lists(rewards, min_size=size, max_size=size), min_size=1))


def test_group_std_divides_by_the_unbiased_deviation():
    # mean 1, deviations -1 0 1: variance (1 + 0 + 1) / 2 = 1
    advantages = group_advantages(torch.tensor([[0.0, 1.0, 2.0]]), "group_std")
    torch.testing.assert_close(advantages, torch.tensor([[-1.0, 0.0, 1.0]]), rtol=0, atol=2e-6)
    assert advantages.dtype == torch.float32
    # mean 0.75, deviations .75 -.25 -.25 -.25: variance 0.75 / 3 = 0.25, std 0.5
    advantages = group_advantages(torch.tensor([[1.5, 0.5, 0.5, 0.5]]), "group_std")
    torch.testing.assert_close(advantages, torch.tensor([[1.5, -0.5, -0.5, -0.5]]), rtol=0, atol=4e-6)


def test_unscaled_advantage_is_the_distance_from_the_mean():
    rewards_PG = torch.tensor([[0.0, 1.0, 2.0], [1.5, 0.0, 0.0]])
    expected = torch.tensor([[-1.0, 0.0, 1.0], [1.0, -0.5, -0.5]])
    assert group_advantages(rewards_PG, "none").equal(expected)


def test_groups_do_not_see_each_other():
    one, other = torch.tensor([[0.0, 1.0]]), torch.tensor([[100.0, 300.0]])
    both = group_advantages(torch.cat([one, other]), "group_std")
    assert both[:1].equal(group_advantages(one, "group_std"))
    assert both[1:].equal(group_advantages(other, "group_std"))


@pytest.mark.parametrize("scale", ["group_std", "batch_std", "none"])
@settings(deadline=None)
@given(length=st.floats(0, 3), size=st.integers(1, 9))
def test_equal_rewards_have_no_advantage_at_all(scale, length, size):
    reward = 1.4 + 0.1 * math.exp(-(length**2))
    assert group_advantages(torch.full((1, size), reward), scale).equal(torch.zeros(1, size))
    assert group_advantages(torch.full((1, size), reward, dtype=torch.float64), scale).equal(torch.zeros(1, size))


@pytest.mark.parametrize("scale", ["group_std", "batch_std", "none"])
def test_rounding_differences_have_no_advantage_but_small_real_ones_do(scale):
    assert group_advantages(torch.tensor([[1.5, 1.5 + 5e-7]]), scale).equal(torch.zeros(1, 2))
    assert group_advantages(torch.tensor([[1.5, 1.5 + 5e-6]]), scale)[0, 1] > 0


@pytest.mark.parametrize("scale", ["group_std", "batch_std", "none"])
@settings(deadline=None)
@given(rows=groups)
def test_advantages_of_a_group_sum_to_zero_and_keep_the_order(scale, rows):
    rewards_PG = torch.tensor(rows)
    advantages_PG = group_advantages(rewards_PG, scale)
    assert advantages_PG.shape == rewards_PG.shape
    assert advantages_PG.isfinite().all()
    assert advantages_PG.equal(group_advantages(rewards_PG.double(), scale))
    torch.testing.assert_close(advantages_PG.sum(dim=1), torch.zeros(len(rows)), rtol=0, atol=1e-5)
    in_order = advantages_PG.gather(1, rewards_PG.argsort(dim=1))
    assert (in_order.diff(dim=1) >= 0).all()


def test_a_reward_that_is_not_finite_is_refused():
    with pytest.raises(AssertionError, match="not finite"):
        group_advantages(torch.tensor([[1.0, math.nan]]), "none")


def test_filter_keeps_groups_between_the_bounds_and_on_them():
    right = torch.arange(11)[:, None] > torch.arange(10)[None, :]  # 0 to 10 of 10
    kept = accuracy_filter(right, 0.1, 0.9)
    assert kept.tolist() == [False] + [True] * 9 + [False]
    assert accuracy_filter(right, 0.0, 1.0).all()


def test_the_two_accuracies_disagree_on_groups_that_are_right_throughout():
    assert not accuracy_filter(torch.ones(1, 8, dtype=torch.bool), 0.1, 0.9).item()
    # right -> right pays 0.75 in the published code, wrong -> right pays 1
    assert accuracy_filter(torch.full((1, 8), 0.75), 0.1, 0.9).item()
    assert not accuracy_filter(torch.full((1, 8), 1.0), 0.1, 0.9).item()


def test_batch_std_divides_every_group_by_the_spread_of_all():
    # all rewards 0 2 | 4 6: mean 3, squares 9 1 1 9, variance 20 / 3
    advantages = group_advantages(torch.tensor([[0.0, 2.0], [4.0, 6.0]]), "batch_std")
    expected = 1 / math.sqrt(20 / 3)
    torch.testing.assert_close(advantages, torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]) * expected, rtol=2e-6, atol=0)


def test_flat_groups_are_those_that_rounding_alone_tells_apart():
    rewards_PG = torch.tensor([[1.5, 1.5 + 5e-7], [1.5, 1.5 + 5e-6], [0.0, 0.0]])
    assert flat_groups(rewards_PG).tolist() == [True, False, True]


def test_the_overlong_penalty_falls_over_the_last_share_of_the_length():
    # DAPO: 20,480 tokens, of which the last 4,096 are punished
    lengths = torch.tensor([[1, 16384, 18432, 20480]])
    assert overlong_penalty(lengths, 20480, 0.2).tolist() == [[0.0, 0.0, -0.5, -1.0]]
    assert overlong_penalty(lengths, 20480, 0.0).tolist() == [[0.0] * 4]

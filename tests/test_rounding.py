"""Masters in 16 more bits, and moments rounded by chance."""

import pytest
import torch

from srpo_fast.policy.rounding import join, split, stochastic, with_bit


def bits(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64).to(torch.int32).view(torch.float32)


def every_lower_half(upper: int) -> torch.Tensor:
    """All fp32 numbers that begin with these 16 bits."""
    return bits(*range(upper << 16, (upper + 1) << 16))


@pytest.mark.parametrize("upper", [0x0000, 0x3F80, 0x3F81, 0x7F7E, 0x8000, 0xBF80, 0xBFFF])
def test_a_master_is_put_together_bit_for_bit_and_its_weight_is_the_copy(upper):
    master = every_lower_half(upper)
    weight, remainder, above = split(master)
    assert torch.equal(weight, master.bfloat16())
    assert (weight.dtype, remainder.dtype) == (torch.bfloat16, torch.int16)
    assert torch.equal(join(weight, remainder, above).view(torch.int32), master.view(torch.int32))


def test_numbers_between_two_weights_go_to_the_even_one_and_the_bit_says_from_where():
    weight, remainder, above = split(bits(0x3F808000, 0x3F818000))  # halfway up from an even number and from an odd one
    assert weight.view(torch.int16).tolist() == [0x3F80, 0x3F82]
    assert remainder.tolist() == [-0x8000, -0x8000]
    assert above.tolist() == [True, False]


def test_the_bit_is_kept_in_a_sign_even_of_zero():
    moment = torch.tensor([0.0, 0.0, 2.0, 2.0])
    bit = torch.tensor([True, False, True, False])
    assert torch.equal(with_bit(moment, bit).signbit(), bit)
    assert torch.equal(with_bit(moment, bit).abs(), moment)


def test_rounding_by_chance_takes_a_neighbour_and_is_right_on_average():
    value = torch.full((200_000,), 1.0 + 0.3 * 2**-7)  # 30 % of the way from 1 to the next bf16 number
    gradient = torch.randn(len(value), generator=torch.Generator().manual_seed(0))
    for sign in (1, -1):
        found = stochastic(sign * value, gradient, 3).float()
        assert set(found.tolist()) == {sign * 1.0, sign * (1.0 + 2**-7)}
        assert ((found.abs() - 1) * 2**7).mean() == pytest.approx(0.3, abs=0.005)  # 5 standard deviations of the mean


def test_chance_differs_from_step_to_step_and_not_from_rank_to_rank():
    value, gradient = torch.full((1,), 1.0 + 2**-8), torch.zeros(1)
    found = torch.cat([stochastic(value, gradient, step) for step in range(2000)]).float()
    assert ((found - 1) * 2**7).mean() == pytest.approx(0.5, abs=0.06)  # 5 standard deviations
    many, other = torch.rand(1000) + 1, torch.randn(1000)
    whole = stochastic(many, other, 7)
    assert torch.equal(whole, torch.cat([stochastic(many[i : i + 7], other[i : i + 7], 7) for i in range(0, 1000, 7)]))


def test_a_bit_in_the_signs_place_changes_no_rounding():
    value, gradient = torch.rand(1000), torch.randn(1000)
    assert torch.equal(stochastic(-value, gradient, 5), -stochastic(value, gradient, 5))


def test_what_is_exact_stays_as_it_is():
    exact = torch.tensor([0.0, -0.0, 1.0, -2.5, float("inf"), 1e-38]).bfloat16()
    assert torch.equal(stochastic(exact.float(), torch.ones(6), 1).view(torch.int16), exact.view(torch.int16))

"""The patch of Triton's interpreter: right, and still needed."""

import torch

from tests.ops.interpreter import product, rounded, unmended


def test_products_of_bf16_are_right_and_unmended_are_not(interpreted):
    left, right = torch.randn(2, 16, 16).bfloat16()
    expected = left.double() @ right.double()
    torch.testing.assert_close(interpreted(product, left, right).double(), expected, rtol=0, atol=1e-5)  # fp32 sums
    error = (interpreted(unmended, product, left, right).double() - expected).abs().max()
    assert error > 1e3, "tl.dot on bf16 is right without the patch: remove that part of it"


def test_fp32_becomes_bf16_as_in_torch_and_unmended_does_not(interpreted):
    values = torch.randn(64)
    values[:8] = torch.tensor([1.00390625, 1.01171875, 3.4e38, -3.4e38, 1e-40, float("inf"), float("nan"), 0.0])
    torch.testing.assert_close(interpreted(rounded, values), values.bfloat16(), rtol=0, atol=0, equal_nan=True)
    cut_off = interpreted(unmended, rounded, values)
    assert not torch.equal(cut_off[8:], values.bfloat16()[8:]), "casts round without the patch: remove that part of it"

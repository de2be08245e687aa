"""Rotary angles on queries and keys: the twin against complex numbers, the Triton kernel against the twin."""

import pytest
import torch
from torch import Tensor

from srpo_kernels import mrope, reference, triton_rows

T = 5


def make(H: int, K: int, d: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key as parts of one tensor as Megatron's are, cos and sin; each half of a head has angles of its own."""
    heads = torch.randn(T, H + K, d, dtype=torch.float64).to(dtype)
    angles = 3 * torch.randn(T, 1, d, dtype=torch.float64)
    return heads[:, :H], heads[:, H:], angles.cos().to(dtype), angles.sin().to(dtype)


def with_gradient(function, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *slopes: Tensor) -> list[Tensor]:
    query, key = query.detach().requires_grad_(), key.detach().requires_grad_()
    turned = function(query, key, cos, sin)
    gradients = torch.autograd.grad(turned, [query, key], slopes)
    return [value.detach() for value in (*turned, *gradients)]


def test_heads_turn_as_complex_numbers():
    query, key, cos, sin = make(3, 1, 8)
    cos, sin = cos[..., :4].repeat(1, 1, 2), sin[..., :4].repeat(1, 1, 2)
    turned = mrope(query, key, cos, sin)
    for heads, result in zip((query, key), turned, strict=True):
        expected = torch.complex(heads[..., :4], heads[..., 4:]) * torch.complex(cos, sin)[..., :4]
        torch.testing.assert_close(torch.complex(result[..., :4], result[..., 4:]), expected)


@pytest.mark.parametrize(("H", "K", "d"), [(7, 1, 128), (6, 2, 24)], ids=["heads_of_128", "ragged"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_the_kernel_and_its_gradient_are_the_twins(launched, H, K, d, dtype, tolerance):
    operands = make(H, K, d, dtype)
    slopes = torch.randn(T, H, d).to(dtype), torch.randn(K, T, d).to(dtype).transpose(0, 1)
    got = launched(with_gradient, triton_rows.mrope, *operands, *slopes)
    expected = with_gradient(reference.mrope, *(x.double() for x in (*operands, *slopes)))
    for value, exact in zip(got, expected, strict=True):  # one rounding of a sum of two products
        torch.testing.assert_close(value.double(), exact, rtol=tolerance, atol=tolerance)


def test_gradients_that_one_number_stands_for(launched):
    operands = make(2, 1, 16, torch.float32)
    slopes = torch.ones(()).expand(T, 2, 16), torch.ones(()).expand(T, 1, 16)
    got = launched(with_gradient, triton_rows.mrope, *operands, *slopes)
    for value, exact in zip(got, with_gradient(reference.mrope, *operands, *slopes), strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-6, atol=1e-6)


def test_no_tokens(launched):
    none = torch.zeros(0, 2, 16)
    turned, _ = launched(triton_rows.mrope, none, none, none[:, :1], none[:, :1])
    assert turned.shape == none.shape

import pytest
import torch

import srpo_kernels
from srpo_kernels import reference

TWINS = [srpo_kernels.nonzero_rows, reference.nonzero_rows]
both = pytest.mark.parametrize("op", TWINS, ids=["op", "reference"])


@both
def test_keeps_masked_in_rows_with_a_coefficient(op):
    mask = torch.tensor([True, False, True, True, False, True])
    coefficients = torch.tensor([0.5, 0.5, 0.0, -2.0, 0.0, 1e-40])  # 1e-40: subnormal, but not zero
    assert op(mask, coefficients).tolist() == [0, 3, 5]


@both
def test_negative_zero_is_zero_and_nan_is_kept(op):
    assert op(torch.ones(3, dtype=torch.bool), torch.tensor([-0.0, float("nan"), 0.0])).tolist() == [1]


@both
@pytest.mark.parametrize("T", [0, 1])
def test_few_tokens(op, T):
    rows = op(torch.ones(T, dtype=torch.bool), torch.ones(T))
    assert rows.tolist() == list(range(T))
    assert rows.dtype == torch.int64


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0], ids=["none", "some", "all"])
@pytest.mark.parametrize("step", [1, 3], ids=["dense", "strided"])
def test_matches_reference(share, step):
    mask = (torch.rand(4099 * step) < share)[::step]
    coefficients = (torch.randn(4099 * step) * (torch.rand(4099 * step) < 0.5))[::step]
    assert torch.equal(srpo_kernels.nonzero_rows(mask, coefficients), reference.nonzero_rows(mask, coefficients))


@both
@pytest.mark.parametrize(
    ("mask", "coefficients"),
    [
        (torch.ones(3, dtype=torch.bool), torch.ones(4)),
        (torch.ones(3, dtype=torch.uint8), torch.ones(3)),
        (torch.ones(3, dtype=torch.bool), torch.ones(3, dtype=torch.float64)),
        (torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 3)),
    ],
    ids=["sizes", "mask-dtype", "coefficient-dtype", "two-axes"],
)
def test_rejects_other_shapes_and_types(op, mask, coefficients):
    with pytest.raises(ValueError, match=r"expected mask \[T\] bool"):
        op(mask, coefficients)

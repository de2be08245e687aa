"""The process in which Triton's interpreter runs kernels: its own, because the interpreter is chosen at import.

The interpreter keeps bf16 as 16-bit integers. It multiplies these as they are in tl.dot, and cuts fp32 off to bf16
where a GPU rounds to nearest even. `start` mends both; test_interpreter.py says when that is no longer needed.
"""

import os
from collections.abc import Callable

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle, _get_np_dtype

from tests.ops.poison import poisoned

MENDED_VERSIONS = ("3.6.0", "3.7.1", "3.9.0")  # of whose interpreters this was tried
UNMENDED = {name: getattr(InterpreterBuilder, name) for name in ("cast_impl", "create_dot", "create_fp_to_fp")}


def start() -> None:
    """Called once, before any kernel is imported."""
    assert os.environ.get("TRITON_INTERPRET") == "1"
    assert triton.__version__ in MENDED_VERSIONS, f"try the patch of the interpreter on triton {triton.__version__}"
    torch.set_num_threads(1)
    _patch(MENDED)
    _poison_empty()


def _patch(methods: dict) -> None:
    for name, method in methods.items():
        setattr(InterpreterBuilder, name, method)


def _poison_empty() -> None:
    """As conftest.py does for the tests' own process."""
    empty = torch.empty
    torch.empty = lambda *a, **k: poisoned(empty(*a, **k))


def _widened(data: np.ndarray) -> np.ndarray:
    return (data.astype(np.uint32) << 16).view(np.float32)


def _narrowed(data: np.ndarray) -> np.ndarray:
    """uint16 bits of bf16, to nearest even; numbers that would become infinite do, NaN stays NaN."""
    bits = np.ascontiguousarray(data).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(data), 0x7FC0, rounded).astype(np.uint16)


def _values(handle: TensorHandle) -> np.ndarray:
    return _widened(handle.data) if handle.dtype.scalar == tl.bfloat16 else handle.data


def _cast(self: InterpreterBuilder, src: TensorHandle, dst_type: tl.dtype) -> TensorHandle:
    if tl.bfloat16 not in (src.dtype.scalar, dst_type.scalar):
        return UNMENDED["cast_impl"](self, src, dst_type)
    values = _values(src)
    to_bf16 = dst_type.scalar == tl.bfloat16
    data = _narrowed(values.astype(np.float32)) if to_bf16 else values.astype(_get_np_dtype(dst_type))
    return TensorHandle(data, dst_type.scalar)


def _convert(self: InterpreterBuilder, src: TensorHandle, dst_type: tl.dtype, rounding_mode: object) -> TensorHandle:
    if tl.bfloat16 in (src.dtype.scalar, dst_type.scalar):
        return _cast(self, src, dst_type)
    return UNMENDED["create_fp_to_fp"](self, src, dst_type, rounding_mode)


def _dot(self: InterpreterBuilder, a: TensorHandle, b: TensorHandle, d: TensorHandle, *how: object) -> TensorHandle:
    a, b = (TensorHandle(_values(h), tl.float32) if h.dtype.scalar == tl.bfloat16 else h for h in (a, b))
    return UNMENDED["create_dot"](self, a, b, d, *how)


MENDED = {"cast_impl": _cast, "create_dot": _dot, "create_fp_to_fp": _convert}


@triton.jit
def _product_kernel(left, right, product, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    tl.store(product + at, tl.dot(tl.load(left + at), tl.load(right + at)))


@triton.jit
def _rounding_kernel(values, rounded, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(rounded + at, tl.load(values + at))


def product(left: Tensor, right: Tensor) -> Tensor:
    """[16, 16] fp32 of two [16, 16] bf16."""
    out = torch.empty(16, 16)
    _product_kernel[1,](left, right, out, SIZE=16)
    return out


def rounded(values: Tensor) -> Tensor:
    """[64] bf16 of [64] fp32."""
    out = torch.empty(64, dtype=torch.bfloat16)
    _rounding_kernel[1,](values, out, SIZE=64)
    return out


def unmended(operation: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """What the operation gives in the interpreter as it comes."""
    _patch(UNMENDED)
    result = operation(*operands)
    _patch(MENDED)
    return result

"""What the machine can do at most, measured beside what is compared with it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.timing import Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A call whose work is known. Data are random: zeros are multiplied faster."""

    run: Callable[[], object]
    work: float  # floating-point operations, or bytes read and written

    def rate(self, seconds: list[float]) -> float:
        """Work a second in the better rounds: a ceiling is not what the machine's other guests left over."""
        return self.work / Spread.of(seconds).p20


def gemm_probe(rows: int, inner: int, columns: int, dtype: torch.dtype, device: str) -> Probe:
    """hidden @ weight.T, as the head's first product has it."""
    a = torch.randn(rows, inner, device=device, dtype=dtype)
    b = torch.randn(columns, inner, device=device, dtype=dtype)
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    return Probe(run=lambda: torch.mm(a, b.T, out=out), work=2.0 * rows * inner * columns)


def copy_probe(num_bytes: int, device: str) -> Probe:
    source = torch.randn(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return Probe(run=lambda: target.copy_(source), work=2.0 * source.nbytes)

"""How every kernel is launched, by GPU architecture: chosen ahead, never tuned while training.

A configuration changes with the GPU and the model, not with the number of rows: so a row's result never depends on the
rows beside it. benchmarks/kernel_resources.py says what each of these compiles to.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearLaunch:
    """Of the product of hidden states and output layer."""

    block_rows: int
    block_columns: int
    block_depth: int
    warps: int
    stages: int  # of operand tiles in shared memory
    group: int = 32  # row tiles that are swept together: 4,096 rows of hidden states stay in L2


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLaunch:
    """Of a kernel that takes rows, or columns of a row, `block` at a time."""

    block: int
    warps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    linear_bf16: LinearLaunch  # and fp16
    linear_fp32: LinearLaunch  # without tensor cores: exact, slow
    finish_rows: RowLaunch  # block: hidden size at a time
    row_statistics: RowLaunch
    objective_rows: RowLaunch
    row_gradient: RowLaunch
    mrope_warps: int


# (least columns of a rank, tiles of columns a split takes). With 4,096 rows and 152,064 columns over 1, 2, 4 and 8
# ranks there is then work for 132 multiprocessors 96 to 100 % of the time, were all tiles equally fast.
_TILES_PER_SPLIT = ((65_536, 9), (32_768, 2), (0, 1))

_LAUNCHES = {  # by compute capability
    (9, 0): Launches(
        linear_bf16=LinearLaunch(block_rows=128, block_columns=256, block_depth=64, warps=8, stages=4),
        linear_fp32=LinearLaunch(block_rows=64, block_columns=64, block_depth=32, warps=8, stages=3),
        finish_rows=RowLaunch(block=1024, warps=4),
        row_statistics=RowLaunch(block=8192, warps=16),
        objective_rows=RowLaunch(block=1024, warps=8),
        row_gradient=RowLaunch(block=16384, warps=16),
        mrope_warps=4,
    ),
}


def launches_on(device: torch.device) -> Launches:
    """Those of this GPU, or of the newest older one; without a GPU, to interpret or to compile, those of Hopper."""
    if device.type != "cuda":
        return _LAUNCHES[9, 0]
    capability = torch.cuda.get_device_capability(device)
    known = [generation for generation in _LAUNCHES if generation <= capability]
    if not known:
        raise ValueError(f"the Triton kernels need a GPU of compute capability 9.0 or newer, got {capability}")
    return _LAUNCHES[max(known)]


def tiles_per_split(columns: int) -> int:
    return next(tiles for least, tiles in _TILES_PER_SPLIT if columns >= least)


def resident_programs(device: torch.device) -> int:
    """How many programs a persistent kernel starts: one a multiprocessor; three in the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 3

"""Statistics of the logits hidden @ weight.T, which are never stored: a product with an epilogue of sums.

Each tile of rows meets the columns in splits; a split's statistics are [3, rows], and finish_rows.py merges them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from srpo_kernels.triton_rows.finish_rows import finish_rows
from srpo_kernels.triton_rows.launches import (
    LinearLaunch,
    launches_on,
    resident_programs,
    tiles_per_split,
)
from srpo_kernels.triton_rows.online import LOWEST, banned_flags, binary_scale, binary_scores, check_floats, fold
from srpo_kernels.vocab_shard import VocabShard


def linear_statistics(hidden: Tensor, weight: Tensor, labels: Tensor, *, vocab: VocabShard) -> Tensor:
    """[4, n] fp32, as the twin's, for hidden and weight of one dtype, their rows at multiples of 16 bytes."""
    _check_operands(hidden, weight)
    launches = launches_on(hidden.device)
    launch = launches.linear_fp32 if hidden.dtype == torch.float32 else launches.linear_bf16
    flags = banned_flags(vocab, len(weight), hidden.device)
    splits = split_statistics(hidden, weight, flags, binary_scale(vocab), launch, tiles_per_split(len(weight)))
    return finish_rows(splits, hidden, weight, labels, flags, vocab, launches.finish_rows)


def split_statistics(
    hidden: Tensor, weight: Tensor, banned: Tensor | None, scale: float, launch: LinearLaunch, tiles_in_split: int
) -> Tensor:
    """[splits, 3, n] fp32: max, sum and moment of the scores in powers of two, by split of the columns."""
    (n, D), V = hidden.shape, len(weight)
    splits = triton.cdiv(triton.cdiv(V, launch.block_columns), tiles_in_split)
    statistics = torch.empty(splits, 3, n, dtype=torch.float32, device=hidden.device)
    if n == 0:
        return statistics
    items = triton.cdiv(n, launch.block_rows) * splits
    _linear_statistics[min(items, resident_programs(hidden.device)),](
        TensorDescriptor.from_tensor(hidden, [launch.block_rows, launch.block_depth]),
        TensorDescriptor.from_tensor(weight, [launch.block_columns, launch.block_depth]),
        banned, statistics, n, V, D, scale, tiles_in_split, splits, ROWS=launch.block_rows,
        COLUMNS=launch.block_columns, DEPTH=launch.block_depth, GROUP=launch.group, num_warps=launch.warps,
        num_stages=launch.stages,
    )  # fmt: skip
    return statistics


def _check_operands(hidden: Tensor, weight: Tensor) -> None:
    check_floats("hidden", hidden)
    check_floats("weight", weight)
    if hidden.dtype != weight.dtype or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"expected hidden [n, D] and weight [V, D] of one dtype, got {tuple(hidden.shape)} {hidden.dtype} and "
            f"{tuple(weight.shape)} {weight.dtype}"
        )
    for name, operand in (("hidden", hidden), ("weight", weight)):
        if operand.data_ptr() % 16 or operand.stride(0) * operand.element_size() % 16:
            raise ValueError(f"expected rows of {name} at multiples of 16 bytes, got strides {operand.stride()}")


@triton.jit(do_not_specialize=["n", "tiles_in_split", "splits"])
def _linear_statistics(
    hidden, weight, banned, statistics, n, V, D, scale, tiles_in_split, splits, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    row_tiles = tl.cdiv(n, ROWS)
    for item in tl.range(tl.program_id(0), row_tiles * splits, tl.num_programs(0)):
        # rows vary fastest within a group: programs that run together share columns of the weight and rows in L2
        first = item // (GROUP * splits) * GROUP
        height = tl.minimum(row_tiles - first, GROUP)
        within = item - first * splits
        split = within // height
        row = (first + within % height) * ROWS

        highest = tl.full([ROWS], LOWEST, tl.float32)
        mass = tl.zeros([ROWS], tl.float32)
        moment = tl.zeros([ROWS], tl.float32)
        last = tl.minimum((split + 1) * tiles_in_split * COLUMNS, V)
        for column in tl.range(split * tiles_in_split * COLUMNS, last, COLUMNS):
            logits = tl.zeros([ROWS, COLUMNS], tl.float32)
            for depth in tl.range(0, D, DEPTH):
                left = hidden.load([row, depth])
                right = weight.load([column, depth])
                logits = tl.dot(left, right.T, logits, input_precision="ieee")
            columns = column + tl.arange(0, COLUMNS)
            highest, mass, moment = fold(highest, mass, moment, binary_scores(logits, scale, banned, columns, V))

        rows = row + tl.arange(0, ROWS)
        here = statistics + split.to(tl.int64) * 3 * n + rows
        tl.store(here, highest, mask=rows < n)
        tl.store(here + n, mass, mask=rows < n)
        tl.store(here + 2 * n, moment, mask=rows < n)

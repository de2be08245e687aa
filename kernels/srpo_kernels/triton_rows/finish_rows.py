"""The rest of linear_statistics, one program a row: its splits merged, and its label's score, an exact dot product."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from srpo_kernels.triton_rows.launches import RowLaunch
from srpo_kernels.triton_rows.online import BIAS, LN_2, LOWEST, binary_scale
from srpo_kernels.vocab_shard import VocabShard


def finish_rows(
    splits: Tensor, hidden: Tensor, weight: Tensor, labels: Tensor, banned: Tensor | None, vocab: VocabShard,
    launch: RowLaunch,
) -> Tensor:  # fmt: skip
    """[4, n] fp32 statistics of rows from those [splits, 3, n] of their splits, merged in one fixed order."""
    (n, D), V = hidden.shape, len(weight)
    statistics = torch.empty(4, n, dtype=torch.float32, device=hidden.device)
    if n > 0:
        _finish_rows[n,](
            splits, hidden, hidden.stride(0), weight, weight.stride(0), labels, banned, statistics, n, V, D,
            vocab.start, binary_scale(vocab), len(splits), SPLITS=triton.next_power_of_2(len(splits)),
            BLOCK=launch.block, num_warps=launch.warps,
        )  # fmt: skip
    return statistics


@triton.jit
def label_dot(hidden, weight, D, BLOCK: tl.constexpr):
    """The dot product of a row of hidden states and one of the weight, summed in fp32."""
    sums = tl.zeros([BLOCK], tl.float32)
    for first in range(0, D, BLOCK):
        at = first + tl.arange(0, BLOCK)
        left = tl.load(hidden + at, mask=at < D, other=0).to(tl.float32)
        sums += left * tl.load(weight + at, mask=at < D, other=0).to(tl.float32)
    return tl.sum(sums, 0)


@triton.jit(do_not_specialize=["n", "start", "splits"])
def _finish_rows(
    partial, hidden, hidden_stride, weight, weight_stride, labels, banned, statistics, n, V, D, start, scale, splits,
    SPLITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    each = tl.arange(0, SPLITS)
    partial += each.to(tl.int64) * 3 * n + row
    highest = tl.load(partial, mask=each < splits, other=LOWEST)
    mass = tl.load(partial + n, mask=each < splits, other=0)
    moment = tl.load(partial + 2 * n, mask=each < splits, other=0)
    top = tl.max(highest, 0)
    kept = tl.exp2(highest - top)
    tl.store(statistics + row, top * LN_2)
    tl.store(statistics + n + row, tl.sum(mass * kept, 0))
    tl.store(statistics + 2 * n + row, tl.sum((moment + mass * (highest - top)) * kept, 0) * LN_2)

    column = tl.load(labels + row) - start
    score = 0.0
    if (column >= 0) & (column < V):
        score = label_dot(hidden + row.to(tl.int64) * hidden_stride, weight + column * weight_stride, D, BLOCK)
        if banned is not None:
            score += tl.where(tl.load(banned + column) != 0, BIAS, 0.0)
    tl.store(statistics + 3 * n + row, score * scale * LN_2)

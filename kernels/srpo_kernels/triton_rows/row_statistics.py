"""Statistics of rows of logits: one program a row, which it reads once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from srpo_kernels.triton_rows.launches import launches_on
from srpo_kernels.triton_rows.online import (
    BIAS,
    LN_2,
    LOWEST,
    banned_flags,
    binary_scale,
    binary_scores,
    check_floats,
    fold,
)
from srpo_kernels.vocab_shard import VocabShard


def row_statistics(logits: Tensor, labels: Tensor, *, vocab: VocabShard) -> Tensor:
    """[4, n] fp32, as the twin's."""
    check_floats("logits", logits)
    n, V = logits.shape
    statistics = torch.empty(4, n, dtype=torch.float32, device=logits.device)
    launch = launches_on(logits.device).row_statistics
    if n > 0:
        _row_statistics[n,](
            logits, logits.stride(0), labels, banned_flags(vocab, V, logits.device), statistics, n, V, vocab.start,
            binary_scale(vocab), BLOCK=launch.block, num_warps=launch.warps,
        )  # fmt: skip
    return statistics


@triton.jit(do_not_specialize=["n", "start"])
def _row_statistics(logits, row_stride, labels, banned, statistics, n, V, start, scale, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    logits += row.to(tl.int64) * row_stride
    highest = tl.full([1], LOWEST, tl.float32)
    mass = tl.zeros([1], tl.float32)
    moment = tl.zeros([1], tl.float32)
    for first in range(0, V, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        block = tl.load(logits + columns, mask=columns < V, other=0).to(tl.float32)
        scores = binary_scores(block[None, :], scale, banned, columns, V)
        scores = tl.where(scores < LOWEST, LOWEST, scores)  # -inf is 0 mass; NaN stays NaN
        highest, mass, moment = fold(highest, mass, moment, scores)
    one = tl.arange(0, 1)
    tl.store(statistics + row + one, highest * LN_2)
    tl.store(statistics + n + row + one, mass)
    tl.store(statistics + 2 * n + row + one, moment * LN_2)

    column = tl.load(labels + row) - start
    is_here = (column >= 0) & (column < V)
    label_logit = tl.load(logits + column, mask=is_here, other=0).to(tl.float32)
    if banned is not None:
        label_logit += tl.where(tl.load(banned + column, mask=is_here, other=0) != 0, BIAS, 0.0)
    tl.store(statistics + 3 * n + row, label_logit * scale * LN_2)

"""The gradient of rows of logits, written over them: one program a row, which it reads once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from srpo_kernels.reference import Distribution
from srpo_kernels.triton_rows.launches import launches_on
from srpo_kernels.triton_rows.online import BIAS, LN_2, LOG2_E, banned_flags, binary_scale, check_floats
from srpo_kernels.vocab_shard import VocabShard


def row_gradient(
    logits: Tensor, labels: Tensor, distribution: Distribution, dlogprobs: Tensor, dentropy: Tensor | None, *,
    vocab: VocabShard, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """[n, V_tp] of `dtype`, as the twin's, in the storage of `logits`: a narrower dtype takes the front of each row."""
    check_floats("logits", logits)
    if dtype.itemsize > logits.dtype.itemsize:
        raise ValueError(f"expected a gradient no wider than the logits, got {dtype} for {logits.dtype}")
    n, V = logits.shape
    gradient = logits if dtype == logits.dtype else logits.view(dtype)[:, :V]
    launch = launches_on(logits.device).row_gradient
    if n > 0:
        _row_gradient[n,](
            logits, logits.stride(0), gradient, gradient.stride(0), labels, distribution.log_normalizer,
            distribution.entropy, dlogprobs, dentropy, banned_flags(vocab, V, logits.device), V, vocab.start,
            binary_scale(vocab), BLOCK=launch.block, num_warps=launch.warps,
        )  # fmt: skip
    return gradient


# Reading and writing one storage. Let elements be 4 bytes wide in and 2 out. Block b of B columns is read from bytes
# [4bB, 4(b+1)B) of the row and written to [2bB, 2(b+1)B): those hold logits of columns below (b+1)B, that is of this
# block and of earlier ones (of block 0 and itself for b = 0). So nothing is lost if all threads have read blocks up to
# b before any writes block b: the barrier. Reads that the compiler moves up, to blocks ahead, change nothing, for no
# write has come to those yet; and no other program touches the row.
@triton.jit(do_not_specialize=["start"])
def _row_gradient(
    logits, row_stride, gradient, gradient_stride, labels, log_normalizer, entropy, dlogprobs, dentropy, banned, V,
    start, scale, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    logits += row.to(tl.int64) * row_stride
    gradient += row.to(tl.int64) * gradient_stride
    slope = tl.load(dlogprobs + row)
    is_dead = slope == 0
    if dentropy is not None:
        entropy_slope = tl.load(dentropy + row)
        row_entropy = tl.load(entropy + row)
        is_dead = is_dead & (entropy_slope == 0)
    if is_dead:
        for first in range(0, V, BLOCK):
            columns = first + tl.arange(0, BLOCK)
            tl.store(gradient + columns, tl.zeros([BLOCK], gradient.dtype.element_ty), mask=columns < V)
    else:
        label = tl.load(labels + row) - start
        normalizer = tl.load(log_normalizer + row) * LOG2_E
        for first in range(0, V, BLOCK):
            columns = first + tl.arange(0, BLOCK)
            scores = tl.load(logits + columns, mask=columns < V, other=0).to(tl.float32)
            if banned is not None:
                scores += tl.where(tl.load(banned + columns, mask=columns < V, other=0) != 0, BIAS, 0.0)
            log2_p = scores * scale - normalizer
            p = tl.exp2(log2_p)
            change = -p * slope
            if dentropy is not None:
                change -= tl.where(p > 0, entropy_slope * p * (log2_p * LN_2 + row_entropy), 0.0)
            change = tl.where(columns == label, change + slope, change) * (scale * LN_2)
            tl.debug_barrier()
            tl.store(gradient + columns, change.to(gradient.dtype.element_ty), mask=columns < V)

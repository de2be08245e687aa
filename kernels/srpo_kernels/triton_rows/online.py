"""What the statistics kernels share: scores in powers of two, and the running statistics of rows over blocks of them.

Scores are kept times log2(e), because exp2 is one instruction: a block's max, sum and moment are those of 2^x.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from srpo_kernels.vocab_shard import BANNED_BIAS, VocabShard

LOG2_E = tl.constexpr(math.log2(math.e))
LN_2 = tl.constexpr(math.log(2))
LOWEST = tl.constexpr(-1e30)  # where running maxima start and absent columns are: finite, so 0 * (LOWEST - max) is 0
BIAS = tl.constexpr(BANNED_BIAS)


@triton.jit
def binary_scores(logits, scale, banned, columns, V):
    """[rows, columns] fp32 scores times log2(e); LOWEST beyond column V."""
    if banned is not None:
        is_banned = tl.load(banned + columns, mask=columns < V, other=0) != 0
        logits = logits + tl.where(is_banned, BIAS, 0.0)[None, :]
    return tl.where((columns < V)[None, :], logits * scale, LOWEST)


@triton.jit
def fold(highest, mass, moment, scores):
    """Running statistics [rows], updated by a block of scores [rows, columns]."""
    top = tl.maximum(highest, tl.max(scores, 1))
    below = scores - top[:, None]
    powers = tl.exp2(below)
    shift = highest - top
    kept = tl.exp2(shift)
    moment = (moment + mass * shift) * kept + tl.sum(powers * below, 1)
    return top, mass * kept + tl.sum(powers, 1), moment


def banned_flags(vocab: VocabShard, columns: int, device: torch.device) -> Tensor | None:
    """[columns] int8, 1 at banned columns."""
    if vocab.banned_columns is None:
        return None
    return torch.zeros(columns, dtype=torch.int8, device=device).index_fill_(0, vocab.banned_columns, 1)


def binary_scale(vocab: VocabShard) -> float:
    return math.log2(math.e) / vocab.temperature


def check_floats(name: str, values: Tensor) -> None:
    if values.ndim != 2 or values.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"expected {name} [n, columns] of fp32, bf16 or fp16, got {values.shape} {values.dtype}")
    if values.shape[1] > 0 and values.stride(1) != 1:
        raise ValueError(f"expected {name} with neighbouring columns in a row, got strides {values.stride()}")

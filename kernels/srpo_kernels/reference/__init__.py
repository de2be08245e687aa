"""The specification: each operation in plain PyTorch, with no regard for speed. The objective is in objective.py.

One file an operation or two, of the names and signatures of srpo_kernels itself.
"""

from srpo_kernels.objective import Objective, srpo_objective
from srpo_kernels.reference.head import HeadOutput, cross_entropy_head, head_logprobs, live_rows, srpo_head
from srpo_kernels.reference.mrope import mrope
from srpo_kernels.reference.pack_sequences import check_lengths, pack_sequences
from srpo_kernels.reference.rows import (
    Distribution,
    linear_statistics,
    merge_statistics,
    objective_rows,
    row_gradient,
    row_statistics,
)
from srpo_kernels.reference.sync_copy import RowCopy, RowOrder, sync_copy
from srpo_kernels.reference.token_logprobs import token_logprobs_and_entropy

__all__ = [
    "Distribution",
    "HeadOutput",
    "Objective",
    "RowCopy",
    "RowOrder",
    "check_lengths",
    "cross_entropy_head",
    "head_logprobs",
    "linear_statistics",
    "live_rows",
    "merge_statistics",
    "mrope",
    "objective_rows",
    "pack_sequences",
    "row_gradient",
    "row_statistics",
    "srpo_head",
    "srpo_objective",
    "sync_copy",
    "token_logprobs_and_entropy",
]

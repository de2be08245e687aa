"""The row operations of the head for CUDA, in Triton; the specification is reference/rows.py, name by name.

One kernel a file; launches.py holds all launch configurations. Kernels have no atomics: sums are taken in an order that
neither the GPU nor the number of rows changes, so a row's statistics and gradient are the same in any chunk.
"""

from srpo_kernels.triton_rows.linear_statistics import linear_statistics
from srpo_kernels.triton_rows.objective_rows import objective_rows
from srpo_kernels.triton_rows.row_gradient import row_gradient
from srpo_kernels.triton_rows.row_statistics import row_statistics

__all__ = ["linear_statistics", "objective_rows", "row_gradient", "row_statistics"]

"""Copies of weight matrices in one launch: on a GPU by libsrpo_cuda, on a CPU by libsrpo_native, else by the twin.

The table is made once for tensors that stay where they are; `run` then costs one launch.
"""

import ctypes
import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srpo_kernels import native, reference
from srpo_kernels.reference.sync_copy import RowCopy, RowOrder

ABI_VERSION = 1  # SRPO_CUDA_ABI_VERSION in csrc/cuda/sync_copy.cu
FILE_NAME = "libsrpo_cuda.so"
TILE = 16_384  # elements; a block of 256 threads takes 8 vectors each
VECTOR = 8
DTYPES = (torch.float32, torch.bfloat16)


class Entry(ctypes.Structure):
    """SrpoRowCopy of csrc/sync_copy.h."""

    _fields_ = (
        ("source", ctypes.c_void_p), ("target", ctypes.c_void_p), ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64), ("source_stride", ctypes.c_int64), ("target_stride", ctypes.c_int64),
        ("first_tile", ctypes.c_int64), ("tile_rows", ctypes.c_int32), ("tile_columns", ctypes.c_int32),
        ("source_is_bf16", ctypes.c_int32), ("target_is_bf16", ctypes.c_int32), ("is_vectorized", ctypes.c_int32),
        ("order", ctypes.c_int32), ("head_rows", ctypes.c_int32), ("queries_per_group", ctypes.c_int32),
        ("groups", ctypes.c_int32), ("unused", ctypes.c_int32),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTable:
    """Copies between tensors of one device, ready to run. Their tensors have to stay alive and where they are."""

    copies: Sequence[RowCopy]
    entries: Tensor | None  # uint8, the table in the device's memory; None where the twin does it
    num_tiles: int

    def run(self) -> None:
        """Starts the copies on the current stream."""
        if self.entries is None:
            reference.sync_copy(self.copies)
            return
        table, count = self.entries.data_ptr(), len(self.copies)
        if self.entries.device.type == "cpu":
            native.library().srpo_sync_copy_on_cpu(table, count, self.num_tiles, torch.get_num_threads())
            return
        stream = torch.cuda.current_stream(self.entries.device).cuda_stream
        error = cuda_library().srpo_sync_copy(table, count, self.num_tiles, stream)
        assert error == 0, f"cudaError {error}"


def sync_copy(copies: Sequence[RowCopy]) -> None:
    """Does all copies; no target may overlap a source or another target."""
    copy_table(copies).run()


def copy_table(copies: Sequence[RowCopy]) -> CopyTable:
    """The copies, cut into tiles of about the same size; tensors of one device."""
    devices = {t.device for copy in copies for t in (copy.source, copy.target)}
    assert len(devices) <= 1, devices
    if not copies or not all(_is_native(copy) for copy in copies):
        return CopyTable(copies=copies, entries=None, num_tiles=0)
    entries = (Entry * len(copies))()
    num_tiles = 0
    for index, copy in enumerate(copies):
        entries[index] = entry = _entry(copy, num_tiles)
        num_tiles += -(-entry.rows // entry.tile_rows) * -(-entry.columns // entry.tile_columns)
    table = torch.frombuffer(bytearray(entries), dtype=torch.uint8).to(devices.pop())
    return CopyTable(copies=copies, entries=table, num_tiles=num_tiles)


def _is_native(copy: RowCopy) -> bool:
    source, target = copy.source, copy.target
    has_library = (cuda_library() if source.device.type == "cuda" else native.library()) is not None
    plain = all(t.dtype in DTYPES and t.numel() > 0 and t.stride(-1) == 1 for t in (source, target))
    return has_library and plain and source.ndim <= 2


def _entry(copy: RowCopy, first_tile: int) -> Entry:
    source, target = copy.source, copy.target
    if copy.order is RowOrder.PLAIN and source.is_contiguous() and target.is_contiguous():
        source, target = source.view(1, -1), target.view(1, -1)  # one long row, so that every tile is full
    source, target = (t if t.ndim == 2 else t[:, None] for t in (source, target))
    rows, columns = source.shape
    # of a matrix with one column the stride between columns means nothing
    steps = [source.stride(0) if rows > 1 else columns, target.stride(0) if rows > 1 else columns]
    is_aligned = source.data_ptr() % 16 == 0 and target.data_ptr() % 16 == 0
    tile_columns = min(columns, TILE)
    return Entry(
        source=source.data_ptr(), target=target.data_ptr(), rows=rows, columns=columns, source_stride=steps[0],
        target_stride=steps[1], first_tile=first_tile, tile_rows=max(1, TILE // columns), tile_columns=tile_columns,
        source_is_bf16=source.dtype == torch.bfloat16, target_is_bf16=target.dtype == torch.bfloat16,
        is_vectorized=is_aligned and all(number % VECTOR == 0 for number in (*steps, columns)), order=copy.order,
        head_rows=copy.head_rows, queries_per_group=copy.queries_per_group, groups=copy.groups,
    )  # fmt: skip


@functools.cache
def cuda_library() -> ctypes.CDLL | None:
    """The loaded library; None, with one warning, when there is none for these sources."""
    path = native.find(FILE_NAME)
    if path is None:
        return _without("it was not built")
    loaded = ctypes.CDLL(str(path))
    if loaded.srpo_cuda_abi_version() != ABI_VERSION:
        return _without(f"{path} was built from other sources")
    loaded.srpo_sync_copy.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p]
    loaded.srpo_sync_copy.restype = ctypes.c_int32
    return loaded


def _without(reason: str) -> None:
    warnings.warn(
        f"no CUDA library ({reason}): sync_copy takes one copy a tensor; put nvcc on the PATH, then `make setup`",
        RuntimeWarning,
        stacklevel=3,
    )

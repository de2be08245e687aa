"""The native library that CMake builds from kernels/csrc: plain C functions, called through ctypes."""

import ctypes
import functools
import warnings
from pathlib import Path

import srpo_kernels

ABI_VERSION = 2  # SRPO_ABI_VERSION in csrc/srpo_native.h
FILE_NAME = "libsrpo_native.so"


def is_available() -> bool:
    """Whether the operations run natively in this process."""
    return library() is not None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The loaded library, its signatures declared; None, with one warning, when there is none for these sources."""
    path = find(FILE_NAME)
    if path is None:
        return _without("it was not built")
    loaded = ctypes.CDLL(str(path))
    if loaded.srpo_abi_version() != ABI_VERSION:
        return _without(f"{path} was built from other sources")
    _declare(loaded)
    return loaded


class Logits(ctypes.Structure):
    """SrpoLogits of csrc/srpo_native.h."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("num_rows", ctypes.c_int64), ("num_columns", ctypes.c_int64),
        ("row_stride", ctypes.c_int64), ("labels", ctypes.c_void_p), ("first_token", ctypes.c_int64),
        ("banned_columns", ctypes.c_void_p), ("num_banned", ctypes.c_int64), ("temperature", ctypes.c_double),
        ("banned_bias", ctypes.c_float), ("is_bf16", ctypes.c_int32), ("num_threads", ctypes.c_int32),
        ("isa", ctypes.c_int32),
    )  # fmt: skip


def _declare(loaded: ctypes.CDLL) -> None:
    pointer, count, number, logits = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.POINTER(Logits)
    for name, result, arguments in (
        ("pack_sequences", None, [pointer, count, count, pointer]),
        ("has_isa", number, [number]),
        ("row_statistics", None, [logits, pointer]),
        ("row_gradient", None, [logits, pointer, pointer, pointer, pointer, pointer, count, number]),
        ("kept_rows", count, [pointer, pointer, count, pointer, count, pointer]),
        ("exp", None, [pointer, count, pointer, number]),
        ("sync_copy_on_cpu", None, [pointer, number, count, number]),
    ):
        function = getattr(loaded, f"srpo_{name}")
        function.restype, function.argtypes = result, arguments


def find(file_name: str) -> Path | None:
    """The library's file. An editable install has two folders: the sources, and what CMake put into site-packages."""
    candidates = (Path(folder) / file_name for folder in srpo_kernels.__path__)
    return next((path for path in candidates if path.is_file()), None)


def _without(reason: str) -> None:
    warnings.warn(
        f"no native library ({reason}): srpo_kernels uses its slower PyTorch twins; "
        "install cmake and a C++ compiler, then run `make setup`",
        RuntimeWarning,
        stacklevel=3,
    )

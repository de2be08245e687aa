"""The native library that CMake builds from kernels/csrc: plain C functions, called through ctypes."""

import ctypes
import functools
import warnings
from pathlib import Path

import srpo_kernels

ABI_VERSION = 1  # SRPO_ABI_VERSION in csrc/srpo_native.h
FILE_NAME = "libsrpo_native.so"


def is_available() -> bool:
    """Whether the operations run natively in this process."""
    return library() is not None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The loaded library, its signatures declared; None, with one warning, when there is none for these sources."""
    path = library_path()
    if path is None:
        return _without("it was not built")
    loaded = ctypes.CDLL(str(path))
    if loaded.srpo_abi_version() != ABI_VERSION:
        return _without(f"{path} was built from other sources")
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    loaded.srpo_pack_sequences.argtypes = [pointer, count, count, pointer]
    loaded.srpo_pack_sequences.restype = None
    return loaded


def library_path() -> Path | None:
    """Where the library lies; None when it was not built."""
    # an editable install has two package folders: the sources, and site-packages with what CMake installed
    candidates = (Path(folder) / FILE_NAME for folder in srpo_kernels.__path__)
    return next((path for path in candidates if path.is_file()), None)


def _without(reason: str) -> None:
    warnings.warn(
        f"no native library ({reason}): srpo_kernels uses its slower PyTorch twins; "
        "install cmake and a C++ compiler, then run `make setup`",
        RuntimeWarning,
        stacklevel=3,
    )

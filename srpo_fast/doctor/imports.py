"""Do the packages work? What metadata promise may be cut off, built for another machine, or half removed."""

import functools
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import ModuleType

from srpo_fast.doctor.finding import SETUP, Finding, error

# what the import of a broken package raises; anything it could do short of ending the process
BROKEN = (ImportError, OSError, AttributeError, TypeError, ValueError, RuntimeError, SyntaxError, KeyError, NameError)
_MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}  # where not named like their package


@functools.cache
def find_torch() -> ModuleType | Finding:
    """torch, or what is wrong with it."""
    try:
        torch = import_module("torch")
        torch.cuda.is_available()
    except BROKEN as problem:
        return error("torch", _says(problem), SETUP)
    return torch


def on_cuda() -> bool:
    torch = find_torch()
    return not isinstance(torch, Finding) and torch.cuda.is_available()


def check_imports(packages: Iterable[str]) -> Iterator[Finding]:
    """A finding for every package that is there and cannot be imported."""
    for package in packages:
        try:
            import_module(_MODULES.get(package, package.replace("-", "_")))
        except BROKEN as problem:
            yield error(package, _says(problem), f"pip install --force-reinstall --no-deps {package}, or {SETUP}")


def _says(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return f"cannot be imported: {type(problem).__name__}: {lines[0] if lines else 'no reason given'}"

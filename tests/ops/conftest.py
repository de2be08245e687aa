import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch

from tests.ops.poison import poisoned


@pytest.fixture(autouse=True)
def _poison_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.empty returns NaN, or the least integer, so an operation that leaves an element unwritten fails."""
    empty, empty_like = torch.empty, torch.empty_like
    monkeypatch.setattr(torch, "empty", lambda *a, **k: poisoned(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poisoned(empty_like(*a, **k)))


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Callable[..., Any]]:
    """Calls a function, f(*args, **kwargs), in the one process in which Triton interprets kernels (interpreter.py).

    Triton reads TRITON_INTERPRET when it is imported, and engines in this process must not see it.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start_interpreter) as process:
        os.environ["TRITON_INTERPRET"] = "1"
        process.submit(int).result()  # starts it
        del os.environ["TRITON_INTERPRET"]
        # pickled here: multiprocessing would share the tensors' memory, and kernels that write in place the test's own
        yield lambda *call, **kwargs: pickle.loads(process.submit(_call, pickle.dumps((call, kwargs))).result())


@pytest.fixture(scope="session")
def launched(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Calls a function that launches kernels: on the GPU if there is one, else interpreted."""
    if not torch.cuda.is_available():
        return request.getfixturevalue("interpreted")
    return lambda f, *args, **kwargs: _on("cpu", f(*_on("cuda", args), **_on("cuda", kwargs)))


def _start_interpreter() -> None:
    from tests.ops import interpreter

    interpreter.start()


def _call(pickled: bytes) -> bytes:
    (function, *args), kwargs = pickle.loads(pickled)
    return pickle.dumps(function(*args, **kwargs))


def _on(device: str, value: Any) -> Any:
    """The value with all its tensors on the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(_on(device, item) for item in value)
    if isinstance(value, dict):
        return {name: _on(device, item) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _on(device, getattr(value, f.name)) for f in fields(value)})
    return value

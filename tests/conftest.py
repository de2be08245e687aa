"""What every test shares: two cores, no network, fixed seeds."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# read when torch, vLLM and transformers are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from srpo_fast.parallel import Parallel


# a busy machine is no reason to fail
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Files that start processes come first: one that takes minutes must not be the last, with the other core idle."""
    items.sort(key=lambda item: not {"run_script", "run_on_ranks"} & vars(item.module).keys())


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test draw from the global generator
    torch.manual_seed(0)


FAULTY_CHECKS = """
import ctypes, os, time
from srpo_fast.grading import expressions

symbolic_verdict = expressions.symbolic_verdict


def faulty(answer, gold):
    with open(os.environ["CHECKED"], "a") as file:
        print(answer, file=file)
    if "91" in answer: time.sleep(600)
    if "92" in answer: ctypes.string_at(0)
    if "93" in answer: os._exit(3)
    if "94" in answer: raise ValueError("no such thing")
    return symbolic_verdict(answer, gold)


expressions.symbolic_verdict = faulty
"""


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Symbolic checks in workers started now hang (91), crash (92), exit (93) or raise (94): the number in the answer.

    The file lists the answers that came to a worker.
    """
    (tmp_path / "sitecustomize.py").write_text(FAULTY_CHECKS)
    (tmp_path / "checked").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("CHECKED", str(tmp_path / "checked"))
    return tmp_path / "checked"


@pytest.fixture(scope="session")
def one_process() -> "Iterator[Parallel]":
    """The process group of one rank: policies, engines and checkpoints of all tests share it."""
    from srpo_fast.config import ParallelConfig
    from srpo_fast.parallel import start, stop

    yield start(ParallelConfig())
    stop()


@pytest.fixture(scope="session")
def untrained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory: the embedded model with random weights."""
    from srpo_fast.embedded.model import write_untrained_model

    path = tmp_path_factory.mktemp("untrained_model")
    write_untrained_model(path, seed=0)
    return path

"""The trained model: everything that imports Megatron."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Megatron says many times that Transformer Engine and Apex are absent; our layer spec does not want them
warnings.filterwarnings("ignore", message="(Transformer Engine and )?Apex (is|are) not installed")
warnings.filterwarnings("ignore", message="full scope is deprecated")  # of a default of its own
# what its optimizer and checkpoints call is deprecated in torch, which a user of this one can do nothing about
for _message in (
    r"`torch\.distributed\.(reduce_scatter_tensor|all_gather_into_tensor)` is deprecated",
    "`load_state_dict` is deprecated",
    "Please use DTensor instead and we are deprecating ShardedTensor",
):
    warnings.filterwarnings("ignore", message=_message, category=FutureWarning)


@contextmanager
def _as_if_absent(package: str) -> Iterator[None]:
    """Inside, importing the package fails as where it is not installed; not if it was imported before."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


# Megatron's inference, which we do not use, imports it where vLLM brought it: seconds in which it asks CUDA for every
# GPU before a rank has chosen its own, and errors that are no ImportError
with _as_if_absent("flashinfer"):
    from srpo_fast.policy.model import NotFinite, Policy

__all__ = ["NotFinite", "Policy"]

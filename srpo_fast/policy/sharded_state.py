"""The policy's weights and optimizer state as Megatron's sharded tensors: saved in one layout, loaded in another.

Every tensor goes to disk under its global name and shape, so tp, pp, cp and the number of data-parallel ranks may all
change in between. Whether the optimizer is distributed may not: Megatron keeps other things of it in either case.
"""

import queue
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.core import CheckpointingException
from megatron.core.dist_checkpointing.strategies import (  # noqa: F401 - the CPU shim must see them, see cpu_shim.install
    filesystem_async,
    fully_parallel,
    state_dict_saver,
)
from megatron.core.dist_checkpointing.validation import StrictHandling
from megatron.core.optimizer import MegatronOptimizer
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from srpo_fast.config import ConfigError


def sharded_weights(chunks: nn.ModuleList) -> dict[str, Any]:
    return {f"chunk{number}": chunk.sharded_state_dict(metadata=_metadata()) for number, chunk in enumerate(chunks)}


def sharded_reference(weights: dict[str, Any], reference: dict[str, Tensor]) -> dict[str, Any]:
    """The reference policy's tensors [names of the chunks' parameters], each sharded like its parameter."""
    sharded: dict[str, Any] = {}
    for full_name, tensor in reference.items():
        chunk, name = full_name.split(".", 1)
        shard = weights[f"chunk{chunk}"][name]
        sharded[full_name] = replace(shard, key=f"reference.{shard.key}", data=tensor)
    return sharded


def load_reference(reference: dict[str, Tensor], state: dict[str, Any]) -> None:
    """The inverse of sharded_reference, from what was read."""
    for name, tensor in reference.items():
        tensor.copy_(state[name])


def sharded_optimizer(optimizer: MegatronOptimizer, weights: dict[str, Any], *, is_loading: bool) -> dict[str, Any]:
    """A collective; with the distributed optimizer the state is gathered for saving."""
    (inner,) = optimizer.chained_optimizers
    _fill_empty_state(inner.optimizer)
    return optimizer.sharded_state_dict(weights, is_loading=is_loading, metadata=_metadata())


def load_optimizer(optimizer: MegatronOptimizer, state: dict[str, Any]) -> None:
    """The inverse of sharded_optimizer, from what was read."""
    (inner,) = optimizer.chained_optimizers
    parameters = state.pop("param_state", None)
    if parameters is None:
        of_adam = state.get("optimizer", state)["state"]  # bf16 has fp32 weights beside it
        of_adam.setdefault("common_step", torch.zeros(()))  # Megatron saves no step that is 0
        inner.load_state_dict(state)
        return
    inner.load_state_dict(state)
    # Megatron looks for a saved `step` of every parameter, and gives all of them one tensor, which each would count up
    states = list(inner.optimizer.state.values())
    steps = [of_parameter.pop("step") for of_parameter in states]
    inner.load_parameter_state_from_fully_reshardable(parameters)
    for of_parameter, step in zip(states, steps, strict=True):
        of_parameter["step"] = step.clone()


def _metadata() -> dict[str, Any]:
    """A new one a call: Megatron adds process groups to it."""
    return {
        "distrib_optim_sharding_type": "fully_reshardable",
        "distrib_optim_fully_reshardable_mem_efficient": True,  # gathered on one data-parallel rank, not on all
        "chained_optim_avoid_prefix": True,
    }


def _fill_empty_state(adam: torch.optim.Optimizer) -> None:
    """What Adam makes in its first step: Megatron can neither save nor load a state before that."""
    for group in adam.param_groups:
        for parameter in group["params"]:
            if not adam.state[parameter]:
                adam.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }


def write_sharded(state: dict[str, Any], folder: Path) -> None:
    """A collective: every rank writes its part into the existing folder and waits for its disk."""
    dist_checkpointing.save(state, str(folder))


def read_sharded(template: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A collective: the tensors that the template's shards name, whole or in part. Raises ConfigError if none fit."""
    try:
        return dist_checkpointing.load(template, str(folder), strict=StrictHandling.RAISE_UNEXPECTED)
    except (CheckpointingException, CheckpointException) as error:
        cause = next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error
        if not isinstance(cause, CheckpointingException):
            raise
        first_line = str(cause).strip().splitlines()[0]
        raise ConfigError(
            f"checkpoint {folder.parent} is not one of this policy ({first_line}); "
            "was model.path or loss.kl_coef changed, or how the optimizer keeps its state?"
        ) from error


def _write_in_this_process(
    transforms: list[Any], use_msc: bool, rank: int, buckets: list[Any], results: "queue.Queue[Any]"
) -> None:
    """Megatron's own writer forks a process for each file, of one that holds an engine and its threads."""
    written: dict[int, Any] = {}
    for number, bucket in enumerate(buckets):
        own, count = queue.Queue(), queue.Queue()
        count.put(number)
        filesystem_async.FileSystemWriterAsync.write_preloaded_data(transforms, number, bucket, own, count, True)
        written[number] = own.get()[1]
    failures = [result for result in written.values() if isinstance(result, Exception)]
    results.put(failures[0] if failures else written)


filesystem_async._get_write_results_queue = queue.Queue
filesystem_async.FileSystemWriterAsync.write_preloaded_data_multiproc = staticmethod(_write_in_this_process)

"""Bytes of host memory that the ranks of one machine need, and how many it has."""

import os
from collections.abc import Callable
from pathlib import Path

from srpo_fast.config import UserError
from srpo_fast.estimate import memory
from srpo_fast.estimate.assumptions import max_image_tokens
from srpo_fast.estimate.job import Job
from srpo_fast.estimate.memory import GIB

THIS = "this"  # in the place of a number: the machine on which one asks
_CONTAINERS_LIMIT = Path("/sys/fs/cgroup/memory.max")


def find_host_gib(text: str | None) -> float | None:
    """GiB of one machine, given as a number or as `this`. Raises UserError for anything else."""
    if text is None:
        return None
    if text == THIS:
        return _own_bytes() / GIB
    try:
        gib = float(text)
    except ValueError:
        gib = -1.0
    if not 0 < gib < float("inf"):
        raise UserError(f"expected --host-memory-gib with a number above 0, or {THIS}, got {text}")
    return gib


def _own_bytes() -> float:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CONTAINERS_LIMIT.read_text().strip() if _CONTAINERS_LIMIT.is_file() else "max"
    return min(installed, int(limit)) if limit.isdecimal() else installed


def spare_gib(job: Job) -> float:
    """GiB of a machine that are left; negative where they do not suffice, without end where none are known."""
    return float("inf") if job.host_gib is None else job.host_gib - sum(on_machine(job).values()) / GIB


def can_suffice(job: Job) -> bool:
    """False where a machine has less than its ranks' processes and a step's images, which no layout makes smaller."""
    if job.host_gib is None:
        return True
    ranks = min(job.layout.gpus, job.assumptions.gpus_per_machine)
    return ranks * (job.assumptions.host_process_gib * GIB + images(job) / 2) <= job.host_gib * GIB


def on_machine(job: Job) -> dict[str, float]:
    """By part, over all ranks of a machine; on a CPU a rank's whole memory is host memory and none of this is extra."""
    ranks = min(job.layout.gpus, job.assumptions.gpus_per_machine)
    parts = {
        "processes": job.assumptions.host_process_gib * GIB,
        "images of a step": images(job),
        "image features": features(job),
        "reference weights": reference(job),
        "optimizer state": optimizer(job),
    }
    whole = {name: ranks * size for name, size in parts.items()} | {"checkpoint being saved": checkpoint(job, ranks)}
    return {name: size for name, size in whole.items() if size}


def features(job: Job) -> float:
    """Of an engine's share of a step's prompts, which each of its ranks is handed."""
    vision = job.shape.vision
    rows = job.assumptions.image_tokens * job.config.data.prompts_per_step / job.layout.engines
    return rows * vision.out_hidden * job.bytes_a_weight


def optimizer(job: Job) -> float:
    """Offloaded, of the fullest rank."""
    return _of_fullest_stage(job, memory.optimizer_state) if job.config.optimizer.offload else 0.0


def checkpoint(job: Job, ranks: float) -> float:
    """What one data-parallel replica writes: Megatron copies all of it to the host before it writes.

    The distributed optimizer's state is gathered there in fp32: 12 bytes a parameter, and for one of the three tensors
    in turn what came from the ranks and that joined (8), beside each rank's own share of all three.
    """
    layout = job.layout
    weights = _of_fullest_stage(job, memory.trained_parameters) * job.bytes_a_weight
    writers = min(ranks, layout.tp * layout.pp)
    if not job.distributed_optimizer:
        return writers * (weights + _of_fullest_stage(job, memory.optimizer_state))
    share = 12 * _of_fullest_stage(job, memory.updated_parameters)
    return writers * (weights + 20 * _of_fullest_stage(job, memory.trained_parameters)) + ranks * share


def _of_fullest_stage(job: Job, size: Callable[[Job, int], float]) -> float:
    return max(size(job, stage) for stage in range(job.layout.pp))


def images(job: Job) -> float:
    """Pixels of all prompts of a step in fp32 on every rank, and once more while a rank's share is put together."""
    vision = job.shape.vision
    a_prompt = max_image_tokens(job.config, vision) * vision.patches_a_token * vision.patch_values * 4
    return (job.config.data.prompts_per_step + job.prompts_of_rank) * a_prompt


def reference(job: Job) -> float:
    """Reference weights, and as many of the policy's while they are swapped in; none without a KL term."""
    return 2 * _of_fullest_stage(job, memory.trained_parameters) * job.bytes_a_weight if job.kl else 0.0

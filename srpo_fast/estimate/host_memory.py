"""Bytes of host memory that the ranks of one machine need."""

from collections.abc import Callable

from srpo_fast.estimate import memory
from srpo_fast.estimate.assumptions import max_image_tokens
from srpo_fast.estimate.job import Job
from srpo_fast.estimate.memory import GIB

ENGINE_IMAGE_CACHE_GIB = 4.0  # vLLM's mm_processor_cache_gb, which we leave at its default


def on_machine(job: Job) -> dict[str, float]:
    """By part, over all ranks of a machine; on a CPU a rank's whole memory is host memory and none of this is extra."""
    ranks = min(job.layout.gpus, job.assumptions.gpus_per_machine)
    parts = {
        "processes": job.assumptions.host_process_gib * GIB,
        "images of a step": images(job),
        "engine's image cache": min(ENGINE_IMAGE_CACHE_GIB * GIB, images(job) / job.layout.engines),
        "reference weights": reference(job),
        "optimizer state": optimizer(job),
    }
    whole = {name: ranks * size for name, size in parts.items()} | {"checkpoint being saved": checkpoint(job, ranks)}
    return {name: size for name, size in whole.items() if size}


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

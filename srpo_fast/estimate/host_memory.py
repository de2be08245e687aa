"""Bytes of host memory that the ranks of one machine need."""

from srpo_fast.estimate import parameters
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
        "tensor being saved": 4 * parameters.embedding(job.shape.text) / job.layout.tp,
    }
    return {name: ranks * size for name, size in parts.items() if size}


def images(job: Job) -> float:
    """Pixels of all prompts of a step in fp32 on every rank, and once more while a rank's share is put together."""
    vision = job.shape.vision
    a_prompt = max_image_tokens(job.config, vision) * vision.patches_a_token * vision.patch_values * 4
    return (job.config.data.prompts_per_step + job.prompts_of_rank) * a_prompt


def reference(job: Job) -> float:
    """Reference weights, and as many of the policy's while they are swapped in; none without a KL term."""
    largest_stage = max(parameters.of_stage(job.shape.text, job.layout, stage) for stage in range(job.layout.pp))
    return 2 * largest_stage * job.bytes_a_weight if job.kl else 0.0

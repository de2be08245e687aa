"""What the engine's KV cache holds."""

from srpo_fast.config import UserError
from srpo_fast.estimate.job import Job
from srpo_fast.estimate.memory import GIB
from srpo_fast.model_limits import cache_gib, rounded_up


def bytes_a_token(job: Job) -> float:
    """Keys and values of all layers on one rank of the engine, which pipeline stages do not divide."""
    text = job.shape.text
    return 2 * text.layers * text.kv_width / job.layout.tp * job.bytes_a_weight


def tokens(job: Job) -> float:
    """That the cache of a rank holds."""
    return job.config.rollout.kv_cache_gib * GIB / bytes_a_token(job)


def concurrency(job: Job) -> float:
    """Completions of full length that an engine runs at once: bounded by the cache, max_num_seqs, and its share.

    The completions of a group share their prompt's blocks.
    """
    rollout = job.config.rollout
    length = job.assumptions.prompt_tokens / rollout.group_size + rollout.max_tokens
    return max(1.0, min(tokens(job) / length, rollout.max_num_seqs, job.completions / job.layout.engines))


def check(job: Job) -> None:
    """Raises UserError where the engine would refuse to start: it wants room for one sequence of full length."""
    if job.gpu.is_cpu and job.config.rollout.kv_cache == "sleeps":
        raise UserError("rollout.kv_cache=sleeps needs a CUDA device, got --gpu cpu; set rollout.kv_cache=resident")
    longest = job.config.data.max_prompt_tokens + job.config.rollout.max_tokens
    needed = cache_gib(job.shape.text, longest, job.config.model.dtype, job.layout.tp)
    if job.config.rollout.kv_cache_gib < needed:
        raise UserError(
            f"rollout.kv_cache_gib={job.config.rollout.kv_cache_gib:g} holds {tokens(job):,.0f} tokens, less than one "
            f"sequence of data.max_prompt_tokens + rollout.max_tokens = {longest}; set at least {rounded_up(needed):g}"
        )

"""Seconds of a step's rollout on one engine: prefill, images, decoding."""

from srpo_fast import flops
from srpo_fast.estimate import kv_cache, parameters
from srpo_fast.estimate.job import Job
from srpo_fast.estimate.rates import Part, all_reduce, attention, bandwidth, products


def rollout(job: Job) -> list[Part]:
    """Every prompt is read once for its whole group, its images once by one rank of the engine."""
    text, a, layout = job.shape.text, job.assumptions, job.layout
    prompts = job.config.data.prompts_per_step / layout.engines
    prefill = a.prompt_tokens * flops.products_a_token(text) + flops.head_a_row(text)
    seconds = products(job, prefill) + attention(job, flops.causal_attention(text, a.prompt_tokens))
    images = products(job, flops.vision_of_prompt(job.shape.vision, a.image_tokens, a.images_per_prompt))
    return [
        Part(name="prefill", phase="rollout", seconds=prompts * seconds / layout.tp, limit="products"),
        Part(name="images", phase="rollout", seconds=prompts * images / layout.tp, limit="products"),
        decode(job),
    ]


def decode(job: Job) -> Part:
    """The larger of reading the weights in every step and the products of all tokens; the rest comes on top.

    The rest: reading keys and values, summing over tp ranks (two all-reduces a layer), a fixed cost a step.
    """
    text, a, layout = job.shape.text, job.assumptions, job.layout
    tokens = job.completions / layout.engines * a.completion_tokens
    steps = decode_steps(job)
    decoder = parameters.of_engine(text, layout)
    reading = steps * decoder * job.bytes_a_weight / bandwidth(job)
    computing = tokens * products(job, flops.products_a_token(text) + flops.head_a_row(text)) / layout.tp
    context = a.prompt_tokens + a.completion_tokens / 2
    keys = tokens * context * kv_cache.bytes_a_token(job) / bandwidth(job)
    sums = all_reduce(job, 2 * text.layers * tokens * text.hidden * job.bytes_a_weight, layout.tp, layout.tp)
    seconds = max(reading, computing) + keys + sums + steps * a.decode_overhead_ms / 1e3
    return Part(
        name="decode", phase="rollout", seconds=seconds, limit="memory" if reading + keys > computing else "products"
    )


def decode_steps(job: Job) -> float:
    """As long as completions wait, each slot is full; the last ones to start include one of full length."""
    waiting = job.completions / job.layout.engines / kv_cache.concurrency(job) - 1
    return max(0.0, waiting) * job.assumptions.completion_tokens + job.config.rollout.max_tokens

"""Seconds of a step's update: one data-parallel rank's share of the trained completions."""

from srpo_fast.estimate import activations, flops, memory, parameters
from srpo_fast.estimate.job import Job, MicroBatchSize
from srpo_fast.estimate.model_shape import TextShape
from srpo_fast.estimate.rates import Part, all_reduce, attention, bandwidth, products


def update(job: Job) -> list[Part]:
    """Images, passes, and what they wait for; nothing is assumed to overlap."""
    a, layout, updates = job.assumptions, job.layout, job.config.optimizer.updates_per_step
    images = job.prompts_of_rank * flops.vision_of_prompt(job.shape.vision, a.image_tokens, a.images_per_prompt)
    # a frozen tower runs once for all passes; a trained one in each, once more for its gradient, and backward
    runs = (4 + (updates > 1) + job.kl) if job.train_vision else 1
    computing = passes(job)
    bubble = computing * (layout.pp - 1) / (layout.chunks * job.micro_batches)
    parts = (
        ("images", runs * products(job, images) / (layout.tp * layout.cp), "products"),
        ("forward, backward", computing, "products"),
        ("elementwise", elementwise(job), "memory"),
        ("sums over tp ranks", sums_over_tp(job), "links"),
        ("pipeline bubble", bubble, "stages"),
        ("sums over dp ranks", updates * sums_over_dp(job), "links"),
        ("optimizer", updates * optimizer(job), "memory"),
    )
    return [Part(name=name, phase="update", seconds=seconds, limit=limit) for name, seconds, limit in parts if seconds]


def required_flops(job: Job) -> float:
    """Of all GPUs: products, causal attention, head of loss rows, three times; the tower's likewise if it is trained.

    A frozen tower counts once a prompt. Recomputation counts for nothing, nor do rows that never reach the head.
    """
    text, a = job.shape.text, job.assumptions
    length = a.prompt_tokens + a.completion_tokens
    sequence = length * flops.products_a_token(text) + flops.causal_attention(text, length)
    sequence += a.completion_tokens * flops.head_a_row(text)
    images = flops.vision_of_prompt(job.shape.vision, a.image_tokens, a.images_per_prompt)
    return 3 * job.completions * a.kept_share * sequence + job.config.data.prompts_per_step * images * (
        3 if job.train_vision else 1
    )


def passes(job: Job) -> float:
    """Forward once, backward twice (attention 2.5 times: it recomputes), what is recomputed, and further forwards.

    Those are for old log-probs, when a step makes several updates, and for the reference's, under a KL term.
    """
    text, a, layout = job.shape.text, job.assumptions, job.layout
    length = a.prompt_tokens + a.completion_tokens
    again = {"none": (0.0, 0.0), "selective": (mlp_share(text), 0.0), "full": (1.0, 1.0)}[job.recompute]
    further = (job.config.optimizer.updates_per_step > 1) + job.kl
    of_products = flops.products_a_token(text) * length * (3 + again[0] + further)
    of_head = flops.head_a_row(text) * a.completion_tokens * (3 + further)
    of_attention = flops.causal_attention(text, length) * (3.5 + again[1] + further)
    seconds = products(job, of_products + of_head) + attention(job, of_attention)
    return job.trained_tokens / length * seconds / (layout.tp * layout.cp * layout.pp)


def mlp_share(text: TextShape) -> float:
    """Of a layer's products."""
    return 3 * text.hidden * text.ffn / parameters.matmul_in_layer(text)


def elementwise(job: Job) -> float:
    """What layers make outside products is written and read once, its gradients too.

    Logits are read for their statistics, and read and overwritten by their gradient: 8 + e bytes.
    """
    a, layout = job.assumptions, job.layout
    tokens = job.trained_tokens / layout.cp
    rows = tokens * a.completion_tokens / (a.prompt_tokens + a.completion_tokens)
    batch = MicroBatchSize(tokens=tokens, loss_rows=rows, padded_tokens=tokens)
    layers = activations.made_in_layer(job, batch) * layout.layers
    logits = (8 + job.bytes_a_weight) * rows * job.shape.text.vocab / layout.tp
    return (4 * layers + logits) / layout.pp / bandwidth(job)


def sums_over_tp(job: Job) -> float:
    """Two all-reduces a layer and pass; sequence parallelism moves as much in other pieces."""
    text, layout = job.shape.text, job.layout
    further = (job.config.optimizer.updates_per_step > 1) + job.kl
    runs = 2 + (job.recompute == "full") + further
    rows = job.trained_tokens / layout.cp * text.layers / layout.pp
    return all_reduce(job, 2 * runs * rows * text.hidden * job.bytes_a_weight, layout.tp, layout.tp)


def sums_over_dp(job: Job) -> float:
    """fp32 gradients; a shared optimizer splits this in two halves, the second for bf16 weights."""
    layout = job.layout
    gradients = 4.0 * memory.trained_parameters(job, 0)
    return all_reduce(job, gradients, layout.dp * layout.cp, layout.tp * layout.cp * layout.dp)


def optimizer(job: Job) -> float:
    """Reads gradients, reads and writes its state, writes weights."""
    count = memory.trained_parameters(job, 0)
    return (count * (4 + job.bytes_a_weight) + 2 * memory.optimizer(job, 0)) / bandwidth(job)

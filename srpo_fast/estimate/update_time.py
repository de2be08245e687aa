"""Seconds of a step's update: one data-parallel rank's share of the trained completions."""

from srpo_fast import flops
from srpo_fast.estimate import activations, memory
from srpo_fast.estimate.job import Job, MicroBatchSize
from srpo_fast.estimate.rates import Part, all_reduce, attention, bandwidth, products
from srpo_fast.model_shape import TextShape


def update(job: Job) -> list[Part]:
    """Images, passes, and what they wait for; nothing is assumed to overlap."""
    a, layout, updates = job.assumptions, job.layout, job.config.optimizer.updates_per_step
    images = job.prompts_of_rank * flops.vision_of_prompt(job.shape.vision, a.image_tokens, a.images_per_prompt)
    # a frozen tower runs once for all passes; a trained one in each, once more for its gradient, its blocks again to
    # rebuild what they did not keep, and backward
    runs = (5 + (updates > 1) + job.kl) if job.train_vision else 1
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
        ("state from host", updates * state_from_host(job), "host link"),
    )
    return [Part(name=name, phase="update", seconds=seconds, limit=limit) for name, seconds, limit in parts if seconds]


def required_flops(job: Job) -> float:
    """Of all GPUs: products, causal attention, head of loss rows, three times; the tower's likewise if it is trained.

    A frozen tower counts once a prompt. Recomputation counts for nothing, nor do rows that never reach the head. A
    prompt counts as often as it is computed.
    """
    a, needed = job.assumptions, flops.UpdateFlops(shape=job.shape, train_vision=job.train_vision)
    prompt = needed.of_sequence(a.prompt_tokens, 0)
    completion = needed.of_sequence(a.prompt_tokens + a.completion_tokens, a.completion_tokens) - prompt
    images = flops.vision_of_prompt(job.shape.vision, a.image_tokens, a.images_per_prompt)
    decoder = job.completions * a.kept_share * completion + job.trained_prompts * prompt
    return decoder + job.config.data.prompts_per_step * images * (3 if job.train_vision else 1)


def passes(job: Job) -> float:
    """Forward once, backward twice (attention 2.5 times: it recomputes), what is recomputed, and further forwards.

    Those are for old log-probs, when a step makes several updates, and for the reference's, under a KL term.
    """
    text, layout = job.shape.text, job.layout
    again = {"none": (0.0, 0.0), "selective": (mlp_share(text), 0.0), "full": (1.0, 1.0)}[job.recompute]
    further = (job.config.optimizer.updates_per_step > 1) + job.kl
    of_products = flops.products_a_token(text) * job.trained_tokens * (3 + again[0] + further)
    of_head = flops.head_a_row(text) * job.trained_rows * (3 + further)
    of_attention = attention_of_rank(job) * (3.5 + again[1] + further)
    seconds = products(job, of_products + of_head) + attention(job, of_attention)
    return seconds / (layout.tp * layout.cp * layout.pp)


def attention_of_rank(job: Job) -> float:
    """Forward, of a step: completions to prompts and themselves, and within prompts as often as they are computed."""
    a = job.assumptions
    within_prompt = flops.causal_attention(job.shape.text, a.prompt_tokens)
    whole = flops.causal_attention(job.shape.text, a.prompt_tokens + a.completion_tokens)
    completions = job.completions * a.kept_share * (whole - within_prompt)
    return (completions + job.trained_prompts * within_prompt) / job.layout.dp


def mlp_share(text: TextShape) -> float:
    """Of a layer's products."""
    return 3 * text.hidden * text.ffn / text.product_weights


def elementwise(job: Job) -> float:
    """What layers make outside products is written and read once, its gradients too.

    Logits are read for their statistics, and read and overwritten by their gradient: 8 + e bytes.
    """
    layout = job.layout
    tokens = job.trained_tokens / layout.cp
    batch = MicroBatchSize(tokens=tokens, loss_rows=job.trained_rows / layout.cp, padded_tokens=tokens)
    layers = activations.made_in_layer(job, batch) * layout.layers
    logits = (8 + job.bytes_a_weight) * batch.loss_rows * job.shape.text.vocab / layout.tp
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
    return (count * (4 + job.bytes_a_weight) + 2 * memory.optimizer_state(job, 0)) / bandwidth(job)


def state_from_host(job: Job) -> float:
    """Offloaded optimizer state comes and goes at the same time, one slice after the other."""
    if not job.config.optimizer.offload:
        return 0.0
    return memory.optimizer_state(job, 0) / (job.assumptions.pcie_gbs * 1e9 * job.assumptions.link_share)

"""Bytes on one GPU by part, in each phase of a step.

Policy and engine share the GPU, so weights, gradients and optimizer are there in all phases; what one adds comes on
top. So is the KV cache, unless it sleeps while the policy trains.
"""

from dataclasses import dataclass

from srpo_fast.estimate import activations, parameters
from srpo_fast.estimate.assumptions import max_image_tokens
from srpo_fast.estimate.job import Job, MicroBatchSize
from srpo_fast.model_shape import VisionShape

GIB = 2.0**30
PATCHES_PER_PASS = 16_384  # policy/vision.py, which cannot be imported without torch
OPTIMIZER_SLICE = 2**22  # elements; policy/adamw.py, likewise
SLICE_BYTES = 29  # of an element while it is updated, at most: with remainders and bf16 moments
PHASES = ("rollout", "images", "fwd+bwd", "step", "sync", "save")
# in which a cache that can sleeps (rollout/phases.py): a resumed run syncs, a validated step is saved, with it awake
ASLEEP = ("images", "fwd+bwd", "step")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMemory:
    """The peak of one phase on a rank of one pipeline stage."""

    phase: str
    stage: int
    parts: tuple[tuple[str, float], ...]  # (name, bytes), none of them 0

    @property
    def total(self) -> float:
        return sum(size for _, size in self.parts)

    @property
    def largest(self) -> str:
        return max(self.parts, key=lambda part: part[1])[0]


def worst_phases(job: Job) -> list[PhaseMemory]:
    """Every phase on the stage where it needs most."""
    stages = [phases_of_stage(job, stage) for stage in range(job.layout.pp)]
    return [max(phases, key=lambda phase: phase.total) for phases in zip(*stages, strict=True)]


def phases_of_stage(job: Job, stage: int) -> list[PhaseMemory]:
    added: dict[str, dict[str, float]] = {
        "rollout": {"work space": max(engine_work_space(job), vision_pass(job))},
        "images": {"image features": features(job, stage), "work space": 0.0 if stage else vision_pass(job)},
        "fwd+bwd": {"image features": features(job, stage)} | forward_backward(job, stage, job.full_micro_batch),
        "step": {"work space": optimizer_step(job, stage)},
        "sync": {"work space": sync(job)},
        "save": {},  # tensors go to the host one by one
    }
    stays = resident(job, stage)
    return [_phase(job, name, stage, stays | added[name]) for name in PHASES]


def what_stays(job: Job) -> float:
    """Bytes of the fullest rank with its cache awake and nothing added: no less than that does any run need."""
    return max(_phase(job, "save", stage, resident(job, stage)).total for stage in range(job.layout.pp))


def _phase(job: Job, name: str, stage: int, parts: dict[str, float]) -> PhaseMemory:
    movable = sum(parts.values()) - parts["KV cache"]
    if name in ASLEEP and job.config.rollout.kv_cache == "sleeps":
        parts["KV cache"] = 0.0
    parts |= {
        "fragmentation": movable * job.assumptions.fragmentation_share,
        "outside torch": job.assumptions.outside_gib * GIB,
    }
    return PhaseMemory(phase=name, stage=stage, parts=tuple((part, size) for part, size in parts.items() if size))


def resident(job: Job, stage: int) -> dict[str, float]:
    """What stays from step to step, a cache that sleeps in some phases included."""
    e = job.bytes_a_weight
    return {
        "policy weights": parameters.of_stage(job.shape.text, job.layout, stage) * e,
        "vision tower": parameters.vision_total(job.shape.vision) * e,
        "gradients": trained_parameters(job, stage) * 4,  # Megatron's buffer of fp32 sums
        "optimizer": optimizer(job, stage),
        "engine weights": engine_weights(job, stage),
        "KV cache": job.config.rollout.kv_cache_gib * GIB,
    }


def engine_weights(job: Job, stage: int) -> float:
    """All layers; where they are shared with the policy, those that this stage has not."""
    engine = parameters.of_engine(job.shape.text, job.layout)
    shared = parameters.of_stage(job.shape.text, job.layout, stage) if job.config.rollout.weights == "alias" else 0
    return max(0, engine - shared) * job.bytes_a_weight


def trained_parameters(job: Job, stage: int) -> int:
    """On one rank: language model and, where it is trained, the whole tower."""
    tower = parameters.vision_total(job.shape.vision) if job.train_vision and stage == 0 else 0
    return parameters.of_stage(job.shape.text, job.layout, stage) + tower


def optimizer(job: Job, stage: int) -> float:
    return 0.0 if job.config.optimizer.offload else optimizer_state(job, stage)


def optimizer_state(job: Job, stage: int) -> float:
    """Of a rank, wherever it is kept."""
    return updated_parameters(job, stage) * state_a_parameter(job)


def state_a_parameter(job: Job) -> int:
    """Adam's two moments in 4 or 2 bytes each and, under bf16 weights, what their fp32 masters need: 4 or 2."""
    settings = job.config.optimizer
    masters = {"full": 4, "remainder": 2}[settings.master_weights] if job.bytes_a_weight == 2 else 0
    return masters + 2 * {"float32": 4, "bfloat16": 2}[settings.moments]


def updated_parameters(job: Job, stage: int) -> float:
    """Those whose optimizer state is on one rank."""
    return trained_parameters(job, stage) / (job.layout.dp * job.layout.cp if job.distributed_optimizer else 1)


def optimizer_step(job: Job, stage: int) -> float:
    """torch's AdamW takes the root of all second moments at once on CUDA (4 bytes a parameter), twice one on a CPU.

    The economical one works in slices: masters, moments, the root and integers of their size, SLICE_BYTES an element,
    and two more buffers for state that comes from the host. Before that, clipping takes a copy of one gradient.
    """
    text = job.shape.text
    largest = max(parameters.embedding(text), 2 * text.hidden * text.ffn) // job.layout.tp
    if job.config.optimizer.is_economical:
        arriving = 2 * state_a_parameter(job) if job.config.optimizer.offload else 0
        return max(4.0 * largest, min(OPTIMIZER_SLICE, largest) * float(SLICE_BYTES + arriving))
    return 2.0 * 4 * largest if job.gpu.is_cpu else 4 * updated_parameters(job, stage)


def forward_backward(job: Job, stage: int, batch: MicroBatchSize) -> dict[str, float]:
    """Kept activations of the micro-batches in flight, and the larger of the loss's peak and a layer's backward pass.

    The loss is computed while every layer's activations are kept; gradients of its logits are gone before the layers
    run backwards.
    """
    text, layout = job.shape.text, job.layout
    in_flight = layout.micro_batches_in_flight(stage, job.micro_batches)
    kept = in_flight * layout.layers_of(stage) * activations.kept_a_layer(job, batch)
    backward = activations.rebuilt_in_backward(job, batch)
    if job.sequence_parallel:
        backward += batch.tokens * text.hidden * job.bytes_a_weight  # rows gathered for a product
    is_last = stage == layout.pp - 1
    loss = activations.loss_peak(job, batch) if is_last else 0.0
    return {"activations": kept, "logits": loss, "work space": max(0.0, backward - loss)}


def features(job: Job, stage: int) -> float:
    """Image features of all of a rank's prompts, on the first stage; trained ones are fp32 and have a gradient."""
    if stage:
        return 0.0
    vision = job.shape.vision
    rows = job.max_patches_of_rank / vision.patches_a_token
    return rows * vision.out_hidden * (8 if job.train_vision else job.bytes_a_weight)


def vision_pass(job: Job) -> float:
    """The tower over a rank's share of the images, in passes of bounded size; one image is never divided."""
    vision, e = job.shape.vision, job.bytes_a_weight
    share = job.max_patches_of_rank / (job.layout.tp * job.layout.cp)
    image = max_image_tokens(job.config, vision) * vision.patches_a_token
    needs = min(share, max(PATCHES_PER_PASS, image)) * vision_pass_a_patch(vision, e)
    if job.train_vision:
        needs = max(needs, min(share, max(PATCHES_PER_PASS, image)) * trained_pass_a_patch(vision, e))
    return needs


def trained_pass_a_patch(vision: VisionShape, e: int) -> float:
    """Bytes a patch while a block of a trained tower runs backwards.

    The inputs of all blocks, what this one has rebuilt, and its gradients, taken to be what its forward pass needs.
    """
    return vision.depth * vision.hidden * e + made_in_block(vision, e) + vision_pass_a_patch(vision, e)


def made_in_block(vision: VisionShape, e: int) -> float:
    """Bytes a patch that autograd saves in a block of the tower, as counted on a CPU.

    The normed stream of both norms before and after the weight (4 D), qkv, turned queries and keys and the output
    (6 D), the output in order (D), gate, silu, up and product (4 F); both norms' streams in fp32 (8 D).
    """
    return e * (11 * vision.hidden + 4 * vision.ffn) + 8 * vision.hidden


def vision_pass_a_patch(vision: VisionShape, e: int) -> float:
    """Bytes a patch at the peak of a block, derived from transformers' Qwen2.5-VL code.

    While keys are turned: stream, normed stream and qkv (5 D e), queries and keys in fp32 (8 D, under bf16 only),
    turned queries and three terms of the turned keys in fp32 (16 D). In the feed-forward part: 2 D e + 3 F e. The
    pixels and the fp32 angles of a head are there as well.
    """
    turning = 5 * vision.hidden * e + (8 * vision.hidden if e < 4 else 0) + 16 * vision.hidden
    feed_forward = 2 * vision.hidden * e + 3 * vision.ffn * e
    return max(turning, feed_forward) + vision.patch_values * e + 8 * vision.hidden // vision.heads


def sync(job: Job) -> float:
    """In place; what is compared afterwards takes a byte an element of the largest shard."""
    text = job.shape.text
    return max(parameters.embedding(text), 2 * text.hidden * text.ffn) / job.layout.tp


def engine_work_space(job: Job) -> float:
    """vLLM's peak while it serves, not measured: a full batch of tokens in one layer, or of samples.

    A layer: stream, residual, normed stream (3 D), gate, up and product (3 F / t). Sampling: three fp32 copies of the
    logits of all running sequences.
    """
    text, tp, e = job.shape.text, job.layout.tp, job.bytes_a_weight
    longest = job.config.data.max_prompt_tokens + job.config.rollout.max_tokens
    tokens = max(8192, longest)  # rollout/vllm_engine.py: max_num_batched_tokens
    layer = tokens * (3 * text.hidden + 3 * text.ffn / tp) * e
    sampling = job.config.rollout.max_num_seqs * text.vocab * 4 * 3
    return max(layer, sampling) + job.assumptions.engine_graphs_gib * GIB

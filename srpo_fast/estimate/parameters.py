"""Parameter counts: of a whole model, and of what one rank holds of it."""

from srpo_fast.estimate.layout import Layout
from srpo_fast.model_shape import ModelShape, TextShape, VisionShape


def total(shape: ModelShape) -> int:
    return text_total(shape.text) + vision_total(shape.vision)


def text_total(text: TextShape) -> int:
    """Embedding, layers, last norm and, unless tied, the head."""
    embeddings = embedding(text) * (1 if text.tied else 2)
    return embeddings + text.layers * (sharded_in_layer(text) + replicated_in_layer(text)) + text.hidden


def embedding(text: TextShape) -> int:
    return text.vocab * text.hidden


def sharded_in_layer(text: TextShape) -> int:
    """What tensor parallelism divides: the products and the biases of q, k and v."""
    return text.product_weights + text.hidden + 2 * text.kv_width


def replicated_in_layer(text: TextShape) -> int:
    """Two norms."""
    return 2 * text.hidden


def vision_total(v: VisionShape) -> int:
    return v.patch_values * v.hidden + v.depth * vision_block(v) + merger(v)


def vision_block(v: VisionShape) -> int:
    """Two norms, qkv and proj with biases, gate, up and down with biases."""
    return 2 * v.hidden + 4 * v.hidden * (v.hidden + 1) + 3 * v.hidden * v.ffn + 2 * v.ffn + v.hidden


def merger(v: VisionShape) -> int:
    """A norm, then two layers over the patches of a token side by side."""
    wide = v.hidden * v.patches_a_token
    return v.hidden + wide * (wide + 1) + (wide + 1) * v.out_hidden


def of_stage(text: TextShape, layout: Layout, stage: int) -> int:
    """Language parameters on one rank of a pipeline stage. A tied embedding is held by the last stage too."""
    layer = sharded_in_layer(text) // layout.tp + replicated_in_layer(text)
    count = layout.layers_of(stage) * layer
    if stage == 0:
        count += embedding(text) // layout.tp
    if stage == layout.pp - 1:
        count += text.hidden
        if not text.tied or layout.pp > 1:
            count += embedding(text) // layout.tp
    return count


def of_engine(text: TextShape, layout: Layout) -> int:
    """Parameters on one rank of the engine: all layers, divided by tp alone; the policy encodes its images."""
    layers = text.layers * (sharded_in_layer(text) // layout.tp + replicated_in_layer(text)) + text.hidden
    return layers + embedding(text) * (1 if text.tied else 2) // layout.tp

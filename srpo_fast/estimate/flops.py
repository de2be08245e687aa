"""Floating-point operations of the parts of the model; a multiply-add counts as two."""

from srpo_fast.estimate import parameters
from srpo_fast.estimate.model_shape import TextShape, VisionShape


def products_a_token(text: TextShape) -> float:
    """Forward, all layers: 2 for each weight of a product. Backward costs twice that."""
    return 2.0 * text.layers * parameters.matmul_in_layer(text)


def causal_attention(text: TextShape, length: float) -> float:
    """Forward, all layers, of one sequence: two products over the lower half of L x L, 4 Q L^2 / 2."""
    return 2.0 * text.layers * text.hidden * length**2


def head_a_row(text: TextShape) -> float:
    """Forward, of one row whose log-prob is wanted."""
    return 2.0 * parameters.embedding(text)


def vision_of_image(vision: VisionShape, patches: float) -> float:
    """Forward, of one image: patch embedding, blocks and merger; windowed layers attend within 64 patches."""
    v = vision
    block = 2.0 * patches * (4 * v.hidden**2 + 3 * v.hidden * v.ffn)
    windowed = 4.0 * v.hidden * patches * min(patches, v.window_patches)
    full = 4.0 * v.hidden * patches**2
    attention = (v.depth - v.full_layers) * windowed + v.full_layers * full
    wide = v.hidden * v.patches_a_token
    merger = 2.0 * patches / v.patches_a_token * (wide**2 + wide * v.out_hidden)
    return 2.0 * patches * v.patch_values * v.hidden + v.depth * block + attention + merger


def vision_of_prompt(vision: VisionShape, image_tokens: float, images: float) -> float:
    """Forward, of a prompt whose image tokens are spread evenly over its images."""
    return images * vision_of_image(vision, image_tokens / images * vision.patches_a_token) if images else 0.0

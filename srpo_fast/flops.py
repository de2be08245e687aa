"""Floating-point operations of the parts of the model; a multiply-add counts as two."""

from collections.abc import Iterable
from dataclasses import dataclass

from srpo_fast.model_shape import ModelShape, TextShape, VisionShape


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFlops:
    """What an update has to compute: forward, and backward, which costs twice that. What is recomputed is left out."""

    shape: ModelShape
    train_vision: bool

    def of_sequence(self, tokens: float, loss_rows: float) -> float:
        """Products of all tokens, attention to those before, and the head for the rows whose log-prob is wanted."""
        text = self.shape.text
        layers = tokens * products_a_token(text) + causal_attention(text, tokens)
        return 3 * (layers + loss_rows * head_a_row(text))

    def of_images(self, patches: Iterable[float]) -> float:
        """The tower over images of so many patches; a frozen one has no backward pass."""
        return (3 if self.train_vision else 1) * sum(vision_of_image(self.shape.vision, count) for count in patches)


def products_a_token(text: TextShape) -> float:
    """Forward, all layers: 2 for each weight of a product. Backward costs twice that."""
    return 2.0 * text.layers * text.product_weights


def causal_attention(text: TextShape, length: float) -> float:
    """Forward, all layers, of one sequence: two products over the lower half of L x L, 4 Q L^2 / 2."""
    return 2.0 * text.layers * text.hidden * length**2


def head_a_row(text: TextShape) -> float:
    """Forward, of one row whose log-prob is wanted."""
    return 2.0 * text.vocab * text.hidden


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

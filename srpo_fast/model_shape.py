"""The sizes of a Qwen2.5-VL model, from its config.json or by name. Nothing here loads a weight."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srpo_fast.config import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """The decoder."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    tied: bool  # the head is the embedding
    positions: int = 128_000  # of a prompt and its completion together; the published files'

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def kv_width(self) -> int:
        """Columns of the keys, and of the values."""
        return self.kv_heads * self.head_dim

    @property
    def product_weights(self) -> int:
        """Of a layer's products: q, k, v, o, gate, up, down."""
        return 2 * self.hidden * (self.hidden + self.kv_width) + 3 * self.hidden * self.ffn


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionShape:
    """The tower; its patches are merge_size^2 times as many as the image tokens it makes."""

    depth: int
    hidden: int
    ffn: int
    heads: int
    out_hidden: int
    patch_size: int = 14
    channels: int = 3
    frames: int = 2  # an image is shown twice
    merge_size: int = 2
    window: int = 112  # pixels
    full_layers: int = 4  # of depth; the others attend within windows

    @property
    def patch_values(self) -> int:
        return self.channels * self.frames * self.patch_size**2

    @property
    def window_patches(self) -> int:
        return (self.window // self.patch_size) ** 2

    @property
    def patches_a_token(self) -> int:
        return self.merge_size**2

    @property
    def pixels_a_token(self) -> int:
        return (self.merge_size * self.patch_size) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    text: TextShape
    vision: VisionShape


def _published(
    layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, vocab: int, vision_ffn: int, tied: bool = False
) -> ModelShape:
    text = TextShape(
        layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, ffn=ffn, vocab=vocab, tied=tied
    )  # fmt: skip
    return ModelShape(text=text, vision=VisionShape(depth=32, hidden=1280, ffn=vision_ffn, heads=16, out_hidden=hidden))


# the config.json of Qwen/Qwen2.5-VL-*-Instruct
PUBLISHED = {
    "3b": _published(36, 2048, 16, 2, 11008, 151936, 3420, tied=True),
    "7b": _published(28, 3584, 28, 4, 18944, 152064, 3420),
    "32b": _published(64, 5120, 40, 8, 27648, 152064, 3456),
    "72b": _published(80, 8192, 64, 8, 29568, 152064, 3456),
}


def find_shape(model_path: str, model_config: str | None) -> ModelShape:
    """The shape that `model_config` names (a size, a config.json or its folder), else that of model.path.

    Raises UserError when neither can be read here.
    """
    source = model_config if model_config is not None else model_path
    if source in PUBLISHED:
        return PUBLISHED[source]
    if source == "embedded":
        return embedded_shape()
    path = Path(source) / "config.json" if Path(source).is_dir() else Path(source)
    if not path.is_file():
        raise UserError(
            f"expected the model's config.json at {path}, found none; "
            f"give --model-config config.json or one of {', '.join(PUBLISHED)}"
        )
    return read_shape(path)


def read_shape(path: Path) -> ModelShape:
    """Raises UserError unless the file is the config of a Qwen2.5-VL model."""
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"expected a model's config in JSON at {path}, got: {error}; copy the file again") from error
    kind = document.get("model_type") if isinstance(document, dict) else type(document).__name__
    if kind != "qwen2_5_vl":
        raise UserError(f"expected the config of a qwen2_5_vl model at {path}, got {kind}")
    return shape_of(document, str(path))


def shape_of(document: dict[str, Any], place: str) -> ModelShape:
    """The shape in a config.json, with its text values at the top (as published) or under text_config."""
    text, vision = document | document.get("text_config", {}), document.get("vision_config", {})
    needed = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    lacking = [key for key in (*needed, "vocab_size") if not isinstance(text.get(key), int)]
    lacking += [f"vision_config.{key}" for key in ("depth", "hidden_size") if not isinstance(vision.get(key), int)]
    if lacking:
        raise UserError(f"expected whole numbers for {', '.join(lacking)} in {place}, found none")
    return ModelShape(
        text=TextShape(
            layers=text["num_hidden_layers"],
            hidden=text["hidden_size"],
            heads=text["num_attention_heads"],
            kv_heads=text["num_key_value_heads"],
            ffn=text["intermediate_size"],
            vocab=text["vocab_size"],
            tied=bool(document.get("tie_word_embeddings", False)),  # of the whole model: text_config may differ
            positions=text.get("max_position_embeddings", 32_768),  # transformers' default
        ),
        vision=VisionShape(  # defaults are those of transformers' config class, which published files leave out
            depth=vision["depth"],
            hidden=vision["hidden_size"],
            ffn=vision.get("intermediate_size", 3420),
            heads=vision.get("num_heads", 16),
            out_hidden=vision.get("out_hidden_size", 3584),
            patch_size=vision.get("patch_size", 14),
            channels=vision.get("in_channels", vision.get("in_chans", 3)),
            frames=vision.get("temporal_patch_size", 2),
            merge_size=vision.get("spatial_merge_size", 2),
            window=vision.get("window_size", 112),
            full_layers=len(vision.get("fullatt_block_indexes", (7, 15, 23, 31))),
        ),
    )


def embedded_shape() -> ModelShape:
    from srpo_fast.embedded.model import build_config
    from srpo_fast.embedded.tokenizer import build_tokenizer

    return shape_of(build_config(build_tokenizer()).to_dict(), "the embedded model")

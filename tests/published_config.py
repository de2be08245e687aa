"""transformers' config of a model by its sizes."""

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import Qwen2_5_VLConfig

from srpo_fast.model_shape import ModelShape


def config_of(shape: ModelShape) -> Qwen2_5_VLConfig:
    t, v = shape.text, shape.vision
    return Qwen2_5_VLConfig(
        text_config={
            "num_hidden_layers": t.layers, "hidden_size": t.hidden, "num_attention_heads": t.heads,
            "num_key_value_heads": t.kv_heads, "intermediate_size": t.ffn, "vocab_size": t.vocab,
            "tie_word_embeddings": t.tied, "max_position_embeddings": t.positions,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={
            "depth": v.depth, "hidden_size": v.hidden, "intermediate_size": v.ffn, "num_heads": v.heads,
            "out_hidden_size": v.out_hidden,
        },
        tie_word_embeddings=t.tied,
    )  # fmt: skip

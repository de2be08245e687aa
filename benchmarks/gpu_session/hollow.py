"""A model directory of a published shape without a download: its tensors are a hole in a file, which takes no disk."""

import json
import struct
from pathlib import Path

import torch
from torch import nn

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from srpo_fast.model_shape import ModelShape
from srpo_fast.policy.name_map import canonical


def write_hollow_model(folder: Path, shape: ModelShape) -> None:
    """Every weight reads as 0 in bf16."""
    config = _config(shape)
    config.save_pretrained(folder)
    with torch.device("meta"):
        tensors = Qwen2_5_VLForConditionalGeneration(config).state_dict()
    if shape.text.tied:
        del tensors["lm_head.weight"]
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + 2 * tensor.numel()
        header[canonical(name)] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Random weights as large as those that a training begins with: time on zeros would flatter."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.02)
        elif not name.endswith("bias"):
            parameter.fill_(1.0)


def _config(shape: ModelShape) -> Qwen2_5_VLConfig:
    t, v = shape.text, shape.vision
    text = {
        "hidden_size": t.hidden, "num_hidden_layers": t.layers, "num_attention_heads": t.heads,
        "num_key_value_heads": t.kv_heads, "intermediate_size": t.ffn, "vocab_size": t.vocab, "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6,
            "mrope_section": [t.head_dim // 8, 3 * t.head_dim // 16, 3 * t.head_dim // 16],
        },
    }  # fmt: skip
    vision = {
        "depth": v.depth, "hidden_size": v.hidden, "intermediate_size": v.ffn, "num_heads": v.heads,
        "out_hidden_size": v.out_hidden, "window_size": v.window,
        "fullatt_block_indexes": list(range(v.depth // v.full_layers - 1, v.depth, v.depth // v.full_layers)),
    }  # fmt: skip
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=t.tied)

"""Sizes read from a config.json, and parameters counted from them."""

import json

import pytest
import torch

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from srpo_fast.config import UserError
from srpo_fast.estimate import parameters
from srpo_fast.estimate.layout import make_layout
from srpo_fast.model_shape import PUBLISHED, ModelShape, find_shape, read_shape
from tests.estimate.conftest import TINY

# half the bytes that model.safetensors.index.json of Qwen/Qwen2.5-VL-*-Instruct gives as total_size
PUBLISHED_COUNTS = {"3b": 3_754_622_976, "7b": 8_292_166_656, "32b": 33_452_718_336, "72b": 73_410_777_344}


def hf_config(shape: ModelShape) -> Qwen2_5_VLConfig:
    t, v = shape.text, shape.vision
    return Qwen2_5_VLConfig(
        text_config={
            "num_hidden_layers": t.layers, "hidden_size": t.hidden, "num_attention_heads": t.heads,
            "num_key_value_heads": t.kv_heads, "intermediate_size": t.ffn, "vocab_size": t.vocab,
            "tie_word_embeddings": t.tied, "max_position_embeddings": t.positions,
        },
        vision_config={
            "depth": v.depth, "hidden_size": v.hidden, "intermediate_size": v.ffn, "num_heads": v.heads,
            "out_hidden_size": v.out_hidden,
        },
        tie_word_embeddings=t.tied,
    )  # fmt: skip


@pytest.mark.parametrize("size", PUBLISHED)
def test_counts_are_those_of_the_published_files_and_of_transformers(size):
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(hf_config(PUBLISHED[size]))
    assert parameters.total(PUBLISHED[size]) == PUBLISHED_COUNTS[size]
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED_COUNTS[size]
    assert sum(p.numel() for p in model.model.visual.parameters()) == parameters.vision_total(PUBLISHED[size].vision)


def test_a_tiny_model_counted_by_hand():
    # a layer: q 8x8+8, k and v 8x4+4 each, o 8x8, MLP 3x8x16, norms 2x8
    layer = 72 + 2 * 36 + 64 + 384 + 16
    assert parameters.text_total(TINY.text) == 2 * layer + 2 * 32 * 8 + 8
    # patches 1176x4; norms 8, qkv 4x12+12, proj 4x4+4, MLP 3x4x6+6+6+4; merger 4, 16x16+16, 16x8+8
    assert parameters.vision_total(TINY.vision) == 4704 + 8 + 60 + 20 + 88 + 4 + 272 + 136


@pytest.mark.parametrize("size", PUBLISHED)
@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (1, 4), (2, 3)])
def test_shards_and_stages_add_up_to_the_model(size, tp, pp):
    text = PUBLISHED[size].text
    layout = make_layout(text, gpus=tp * pp, tp=tp, pp=pp)
    held = sum(parameters.of_stage(text, layout, stage) for stage in range(pp)) * tp
    copies_of_norms = (tp - 1) * (text.layers * 2 + 1) * text.hidden
    tied_copy = parameters.embedding(text) if text.tied and pp > 1 else 0
    assert held == parameters.text_total(text) + copies_of_norms + tied_copy


@pytest.mark.parametrize("size", PUBLISHED)
def test_a_config_is_read_as_published_and_as_transformers_writes_it(size, tmp_path):
    nested = hf_config(PUBLISHED[size]).to_dict()
    text = nested.pop("text_config")
    flat = text | nested | {"vision_config": nested["vision_config"], "model_type": "qwen2_5_vl"}
    for name, document in (("flat", flat), ("nested", nested | {"text_config": text})):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(document))
        assert find_shape(str(folder), None) == PUBLISHED[size]
        assert find_shape("/nowhere", str(folder / "config.json")) == PUBLISHED[size]


def test_the_embedded_model_needs_no_file():
    assert find_shape("embedded", None).text.layers == 3


def test_a_model_that_is_not_here_is_one_clear_line(tmp_path):
    with pytest.raises(
        UserError, match=r"config.json at /models/X, found none; give --model-config .*3b, 7b, 32b, 72b"
    ):
        find_shape("/models/X", None)
    for text, reason in (
        ("{", "in JSON"),
        ('{"model_type": "llama"}', "got llama"),
        ("[]", "got list"),
        ('{"model_type": "qwen2_5_vl", "hidden_size": 8}', "num_hidden_layers"),
    ):
        path = tmp_path / "config.json"
        path.write_text(text)
        with pytest.raises(UserError, match=reason):
            read_shape(path)

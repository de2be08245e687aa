"""A Qwen2.5-VL of less than a million parameters, saved as an ordinary Hugging Face directory."""

from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from srpo_fast.embedded.drawing import CELL, CELLS
from srpo_fast.embedded.tokenizer import (
    END_OF_TEXT,
    IM_END,
    IMAGE_PAD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
    VOCAB_SIZE,
    build_tokenizer,
)

# Two departures from Qwen's numbers, which suit a width of thousands and long texts; each halved the steps to reading.
INIT_STD = 0.06
# M-RoPE gives an image token's column the slowest third of the frequencies: columns 0 to 3 must still differ in them
ROPE_THETA = 3.0
HIDDEN = 128  # 4 heads of 32: the smallest head vLLM's CPU attention knows, and divisible over two ranks


def build_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL's architecture with every feature the real one has: GQA, M-RoPE, window and full vision attention."""
    ids = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "initializer_range": INIT_STD,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": [4, 6, 6]},
        "tie_word_embeddings": True,
        "bos_token_id": ids(END_OF_TEXT),
        "eos_token_id": ids(IM_END),
        "pad_token_id": ids(END_OF_TEXT),
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "initializer_range": INIT_STD,
        "out_hidden_size": HIDDEN,
        "window_size": 2 * CELL,
        "fullatt_block_indexes": [1],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids(IMAGE_PAD),
        video_token_id=ids(VIDEO_PAD),
        vision_start_token_id=ids(VISION_START),
        vision_end_token_id=ids(VISION_END),
        tie_word_embeddings=True,
        dtype="float32",
    )


def build_untrained_model(seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """The model with random weights that depend on `seed` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2_5_VLForConditionalGeneration(build_config(build_tokenizer()))


def build_processor() -> Qwen2_5_VLProcessor:
    """Tokenizer and image processor; the task's 28 x 112 pictures pass at their size."""
    tokenizer = build_tokenizer()
    pixels = {"shortest_edge": CELL * CELL, "longest_edge": 16 * CELLS * CELL * CELL}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=tokenizer.chat_template,
    )


def write_model(model: Qwen2_5_VLForConditionalGeneration, path: Path) -> None:
    """Writes config, weights, tokenizer, processor and chat template into the directory `path`."""
    tokenizer = build_tokenizer()
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(path)
    build_processor().save_pretrained(path)


def write_untrained_model(path: Path, seed: int) -> None:
    """A directory with random weights."""
    write_model(build_untrained_model(seed), path)

"""What the engine would refuse, said from config.json before it is started."""

import json
from dataclasses import replace

import pytest

from srpo_fast.config import DEFAULT_CONFIG, ConfigError, UserError, load_config
from srpo_fast.model_limits import cache_gib, check_limits, read_model_dir
from srpo_fast.model_shape import PUBLISHED

SEVEN = PUBLISHED["7b"]


def config(*overrides: str):
    return load_config(DEFAULT_CONFIG.with_name("qwen2_5_vl_7b.yaml"), list(overrides))


def test_a_sequence_in_the_cache_by_hand():
    # 28 layers of 4 heads of 128 keys and values in bf16: 57,344 bytes a token, in blocks of 32
    assert cache_gib(SEVEN.text, 33, "bfloat16", tp=1) == 96 * 57_344 / 2**30
    assert cache_gib(SEVEN.text, 33, "float32", tp=4) == 96 * 57_344 / 2 / 2**30


def test_what_ships_has_room():
    check_limits(SEVEN, config())


def test_positions_and_cache_are_said_at_once_with_what_to_do():
    few = replace(SEVEN, text=replace(SEVEN.text, positions=3071))
    with pytest.raises(ConfigError) as error:
        check_limits(few, config("rollout.kv_cache_gib=0.08", "parallel.tp=2"))
    first, second = str(error.value).split("; rollout.kv_cache_gib")
    assert "+ rollout.max_tokens=2048 is more than the model's 3071 positions" in first
    assert "=0.08 holds no sequence" in second
    assert "set at least 0.083," in second
    check_limits(SEVEN, config("rollout.kv_cache_gib=0.083", "parallel.tp=2"))


def test_a_cut_that_the_model_does_not_allow_is_refused():
    with pytest.raises(ConfigError, match="tp=3 does not divide the model's 28 attention heads"):
        check_limits(SEVEN, config("parallel.tp=3"))
    with pytest.raises(ConfigError, match="32 pipeline chunks are more than the model's 28 layers"):
        check_limits(SEVEN, config("parallel.pp=16", "parallel.chunks_per_stage=2"))


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "found no config.json"), ("{", "in JSON"), ("[]", "got list"), ('{"model_type": "llava"}', "got llava")],
)
def test_what_is_no_model_is_one_line(text, says, tmp_path):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=says):
        read_model_dir(tmp_path)


def test_the_positions_are_read_from_the_file(tmp_path):
    text = {
        "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 8, "vocab_size": 9, "max_position_embeddings": 77,
    }  # fmt: skip
    document = {"model_type": "qwen2_5_vl", "text_config": text, "vision_config": {"depth": 1, "hidden_size": 8}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert read_model_dir(tmp_path).text.positions == 77

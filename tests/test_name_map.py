"""One table, both directions: nothing of the model is lost, doubled or reordered."""

import pytest
import torch
from torch import Tensor

from srpo_fast.policy.hf_directory import HFDirectory
from srpo_fast.policy.name_map import RULES, HeadLayout, canonical, rule_for

LAYOUT = HeadLayout(heads=4, kv_heads=2)
HEAD_SIZE, HIDDEN, FFN, VOCAB = 6, 24, 16, 20
SHAPES = {
    "model.embed_tokens.weight": (VOCAB, HIDDEN),
    "lm_head.weight": (VOCAB, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    "input_layernorm.weight": (HIDDEN,),
    "post_attention_layernorm.weight": (HIDDEN,),
    "q_proj.weight": (4 * HEAD_SIZE, HIDDEN),
    "k_proj.weight": (2 * HEAD_SIZE, HIDDEN),
    "v_proj.weight": (2 * HEAD_SIZE, HIDDEN),
    "q_proj.bias": (4 * HEAD_SIZE,),
    "k_proj.bias": (2 * HEAD_SIZE,),
    "v_proj.bias": (2 * HEAD_SIZE,),
    "o_proj.weight": (HIDDEN, 4 * HEAD_SIZE),
    "gate_proj.weight": (FFN, HIDDEN),
    "up_proj.weight": (FFN, HIDDEN),
    "down_proj.weight": (HIDDEN, FFN),
}


def make_tensors(hf_names: tuple[str, ...]) -> list[Tensor]:
    """Random ones of the shapes above; a layer's tensors go by the end of their names."""
    return [torch.randn(SHAPES.get(name) or SHAPES[".".join(name.split(".")[-2:])]) for name in hf_names]


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("name", RULES)
def test_what_is_cut_joins_bit_exactly(name, tp):
    rule = RULES[name]
    whole = make_tensors(rule.hf_names)
    shards = [rule.shard(whole, tp, rank, LAYOUT) for rank in range(tp)]
    assert len(shards) == tp
    assert len({shard.shape for shard in shards}) == 1
    joined = rule.join(shards if rule.is_cut else shards[:1], LAYOUT)
    assert len(joined) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(whole, joined, strict=True))


def test_a_rank_has_its_queries_then_its_keys_then_its_values():
    """Heads by number: queries 0 and 1 read key/value head 0, queries 2 and 3 head 1."""
    q, k, v = (torch.arange(heads).repeat_interleave(HEAD_SIZE) + start for heads, start in ((4, 0), (2, 10), (2, 20)))
    rule = RULES["decoder.layers.{}.self_attention.linear_qkv.bias"]
    assert rule.shard([q, k, v], 1, 0, LAYOUT)[::HEAD_SIZE].tolist() == [0, 1, 2, 3, 10, 11, 20, 21]
    first, second = (rule.shard([q, k, v], 2, rank, LAYOUT) for rank in range(2))
    assert first[::HEAD_SIZE].tolist() == [0, 1, 10, 20]
    assert second[::HEAD_SIZE].tolist() == [2, 3, 11, 21]


def test_each_rank_has_the_up_rows_of_its_gate_rows():
    gate, up = torch.arange(4)[:, None], 10 + torch.arange(4)[:, None]
    rule = RULES["decoder.layers.{}.mlp.linear_fc1.weight"]
    first, second = (rule.shard([gate, up], 2, rank, LAYOUT) for rank in range(2))
    assert first.flatten().tolist() == [0, 1, 10, 11]
    assert second.flatten().tolist() == [2, 3, 12, 13]


def test_layer_numbers_are_global():
    _, names = rule_for("decoder.layers.1.mlp.linear_fc1.weight", first_layer=14)
    assert names == ("model.layers.15.mlp.gate_proj.weight", "model.layers.15.mlp.up_proj.weight")
    assert rule_for("decoder.final_layernorm.weight", first_layer=14)[1] == ("model.norm.weight",)


def test_newer_names_are_read_as_the_published_ones():
    assert canonical("model.language_model.layers.3.mlp.up_proj.weight") == "model.layers.3.mlp.up_proj.weight"
    assert canonical("model.visual.blocks.0.norm1.weight") == "visual.blocks.0.norm1.weight"
    for published in ("model.layers.3.mlp.up_proj.weight", "visual.merger.ln_q.weight", "lm_head.weight"):
        assert canonical(published) == published


def test_the_rules_cover_every_language_tensor_of_a_directory_once(untrained_model):
    directory = HFDirectory(untrained_model)
    layers = directory.config.text_config.num_hidden_layers
    covered = []
    for name, rule in RULES.items():
        numbers = range(layers) if "{}" in name else range(1)
        covered += [hf_name.format(number) for number in numbers for hf_name in rule.hf_names]
    covered.remove("lm_head.weight")  # tied: the embedding is the head
    assert sorted(covered) == sorted(n for n in directory.tensor_names if not n.startswith("visual."))

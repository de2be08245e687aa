"""One table between Megatron's parameter names and Hugging Face's, for loading, export and weight sync.

A rule says which Hugging Face tensors make up one Megatron parameter and how tensor parallelism cuts it. Names are the
published ones (`model.layers.N...`, `lm_head.weight`); `canonical` turns newer in-memory names into them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """What the fused QKV parameter needs to know; sizes of the whole model."""

    heads: int
    kv_heads: int


@dataclass(frozen=True, slots=True)
class Rule:
    hf_names: tuple[str, ...]  # "{}" stands for the global layer number
    to_shards: Callable[[list[Tensor], int, HeadLayout], list[Tensor]]  # whole tensors, tp -> one shard a rank
    from_shards: Callable[[list[Tensor], HeadLayout], list[Tensor]]  # all ranks' shards -> whole tensors

    @property
    def is_cut(self) -> bool:
        """False: every tensor-parallel rank holds the same copy."""
        return self.to_shards is not _replicate


def _replicate(tensors: list[Tensor], tp: int, layout: HeadLayout) -> list[Tensor]:
    return tensors * tp


def _first(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    return shards[:1]


def _cut_rows(tensors: list[Tensor], tp: int, layout: HeadLayout) -> list[Tensor]:
    return list(tensors[0].chunk(tp, dim=0))


def _join_rows(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    return [torch.cat(shards, dim=0)]


def _cut_columns(tensors: list[Tensor], tp: int, layout: HeadLayout) -> list[Tensor]:
    return list(tensors[0].chunk(tp, dim=1))


def _join_columns(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    return [torch.cat(shards, dim=1)]


def _cut_gate_up(tensors: list[Tensor], tp: int, layout: HeadLayout) -> list[Tensor]:
    return [torch.cat(pair) for pair in zip(*(t.chunk(tp) for t in tensors), strict=True)]


def _join_gate_up(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    gates, ups = zip(*(s.chunk(2) for s in shards), strict=True)
    return [torch.cat(gates), torch.cat(ups)]


def _cut_qkv(tensors: list[Tensor], tp: int, layout: HeadLayout) -> list[Tensor]:
    """Megatron keeps, for every key/value head, its query heads, then the key, then the value."""
    groups = [t.unflatten(0, (layout.kv_heads, -1)) for t in tensors]
    return list(torch.cat(groups, dim=1).flatten(0, 1).chunk(tp))


def _join_qkv(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    grouped = torch.cat(shards).unflatten(0, (layout.kv_heads, -1))
    queries = layout.heads // layout.kv_heads
    head = grouped.size(1) // (queries + 2)
    return [part.flatten(0, 1) for part in grouped.split([queries * head, head, head], dim=1)]


def _rows(*names: str) -> Rule:
    return Rule(names, _cut_rows, _join_rows)


def _whole(*names: str) -> Rule:
    return Rule(names, _replicate, _first)


def _qkv(kind: str) -> Rule:
    return Rule(tuple(f"model.layers.{{}}.self_attn.{p}_proj.{kind}" for p in "qkv"), _cut_qkv, _join_qkv)


RULES: dict[str, Rule] = {
    "embedding.word_embeddings.weight": _rows("model.embed_tokens.weight"),
    "output_layer.weight": _rows("lm_head.weight"),
    "decoder.final_layernorm.weight": _whole("model.norm.weight"),
    "decoder.layers.{}.input_layernorm.weight": _whole("model.layers.{}.input_layernorm.weight"),
    "decoder.layers.{}.self_attention.linear_qkv.weight": _qkv("weight"),
    "decoder.layers.{}.self_attention.linear_qkv.bias": _qkv("bias"),
    "decoder.layers.{}.self_attention.linear_proj.weight": Rule(
        ("model.layers.{}.self_attn.o_proj.weight",), _cut_columns, _join_columns
    ),
    "decoder.layers.{}.pre_mlp_layernorm.weight": _whole("model.layers.{}.post_attention_layernorm.weight"),
    "decoder.layers.{}.mlp.linear_fc1.weight": Rule(
        ("model.layers.{}.mlp.gate_proj.weight", "model.layers.{}.mlp.up_proj.weight"), _cut_gate_up, _join_gate_up
    ),
    "decoder.layers.{}.mlp.linear_fc2.weight": Rule(
        ("model.layers.{}.mlp.down_proj.weight",), _cut_columns, _join_columns
    ),
}


def rule_for(megatron_name: str, first_layer: int) -> tuple[Rule, tuple[str, ...]]:
    """The rule of a parameter and its Hugging Face names, layer numbers made global by the stage's first layer."""
    parts = megatron_name.split(".")
    if parts[:2] == ["decoder", "layers"]:
        layer = str(first_layer + int(parts[2]))
        rule = RULES[".".join([*parts[:2], "{}", *parts[3:]])]
        return rule, tuple(name.format(layer) for name in rule.hf_names)
    rule = RULES[megatron_name]
    return rule, rule.hf_names


def canonical(hf_name: str) -> str:
    """The published name of a tensor that transformers may have saved under its newer in-memory name."""
    if hf_name.startswith("model.visual."):
        return hf_name.removeprefix("model.")
    return hf_name.replace("model.language_model.", "model.", 1)

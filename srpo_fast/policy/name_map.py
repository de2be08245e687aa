"""One table between Megatron's parameter names and Hugging Face's, for loading, export and weight sync.

A rule says which Hugging Face tensors make up one Megatron parameter and how tensor parallelism cuts it. Names are the
published ones (`model.layers.N...`, `lm_head.weight`); `canonical` turns newer in-memory names into them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """What the fused QKV parameter needs to know; sizes of the whole model."""

    heads: int
    kv_heads: int


class Source(Protocol):
    """A whole tensor, or one in a file that reads only what is asked of it."""

    def __getitem__(self, rows_and_columns: Any) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Rule:
    hf_names: tuple[str, ...]  # "{}" stands for the global layer number
    shard: Callable[[Sequence[Source], int, int, HeadLayout], Tensor]  # whole tensors, tp, tp_rank -> that rank's shard
    join: Callable[[list[Tensor], HeadLayout], list[Tensor]]  # all ranks' shards -> whole tensors

    @property
    def is_cut(self) -> bool:
        """False: every tensor-parallel rank holds the same copy."""
        return self.shard is not _replicate


def _share(size: int, tp: int, tp_rank: int) -> slice:
    return slice(size * tp_rank // tp, size * (tp_rank + 1) // tp)


def _replicate(sources: Sequence[Source], tp: int, tp_rank: int, layout: HeadLayout) -> Tensor:
    return sources[0][:]


def _first(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    return shards[:1]


def _own_rows(sources: Sequence[Source], tp: int, tp_rank: int, layout: HeadLayout) -> Tensor:
    """A rank's rows of every one of them, one above the other: the engine's order."""
    return _stack([source[_share(_shape(source)[0], tp, tp_rank)] for source in sources])


def _join_rows(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    return [torch.cat(shards, dim=0)]


def _own_columns(sources: Sequence[Source], tp: int, tp_rank: int, layout: HeadLayout) -> Tensor:
    return sources[0][:, _share(_shape(sources[0])[1], tp, tp_rank)]


def _join_columns(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    return [torch.cat(shards, dim=1)]


def _join_gate_up(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    return _join_stacked(shards, (1, 1))


def _join_qkv(shards: list[Tensor], layout: HeadLayout) -> list[Tensor]:
    return _join_stacked(shards, (layout.heads, layout.kv_heads, layout.kv_heads))


def _join_stacked(shards: list[Tensor], shares: tuple[int, ...]) -> list[Tensor]:
    rows = [len(shards[0]) * share // sum(shares) for share in shares]
    return [torch.cat(parts) for parts in zip(*(shard.split(rows) for shard in shards), strict=True)]


def _stack(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]  # an embedding is not copied


def _shape(source: Any) -> Sequence[int]:
    return source.shape if isinstance(source, Tensor) else source.get_shape()


def _rows(*names: str) -> Rule:
    return Rule(names, _own_rows, _join_rows)


def _whole(*names: str) -> Rule:
    return Rule(names, _replicate, _first)


def _qkv(kind: str) -> Rule:
    return Rule(tuple(f"model.layers.{{}}.self_attn.{p}_proj.{kind}" for p in "qkv"), _own_rows, _join_qkv)


RULES: dict[str, Rule] = {
    "embedding.word_embeddings.weight": _rows("model.embed_tokens.weight"),
    "output_layer.weight": _rows("lm_head.weight"),
    "decoder.final_layernorm.weight": _whole("model.norm.weight"),
    "decoder.layers.{}.input_layernorm.weight": _whole("model.layers.{}.input_layernorm.weight"),
    "decoder.layers.{}.self_attention.linear_qkv.weight": _qkv("weight"),
    "decoder.layers.{}.self_attention.linear_qkv.bias": _qkv("bias"),
    "decoder.layers.{}.self_attention.linear_proj.weight": Rule(
        ("model.layers.{}.self_attn.o_proj.weight",), _own_columns, _join_columns
    ),
    "decoder.layers.{}.pre_mlp_layernorm.weight": _whole("model.layers.{}.post_attention_layernorm.weight"),
    "decoder.layers.{}.mlp.linear_fc1.weight": Rule(
        ("model.layers.{}.mlp.gate_proj.weight", "model.layers.{}.mlp.up_proj.weight"), _own_rows, _join_gate_up
    ),
    "decoder.layers.{}.mlp.linear_fc2.weight": Rule(
        ("model.layers.{}.mlp.down_proj.weight",), _own_columns, _join_columns
    ),
}


def rule_for(megatron_name: str, first_layer: int) -> tuple[Rule, tuple[str, ...]]:
    """The rule of a parameter and its Hugging Face names, layer numbers made global by the stage's first layer."""
    parts = megatron_name.split(".")
    if parts[:2] == ["decoder", "layers"]:
        layer = str(first_layer + int(parts[2]))
        rule = RULES[".".join([*parts[:2], "{}", *parts[3:]])]
        return rule, tuple(name.format(layer) for name in rule.hf_names)
    rule = _whole(megatron_name) if parts[0] == "visual" else RULES[megatron_name]
    return rule, rule.hf_names


def canonical(hf_name: str) -> str:
    """The published name of a tensor that transformers may have saved under its newer in-memory name."""
    if hf_name.startswith("model.visual."):
        return hf_name.removeprefix("model.")
    return hf_name.replace("model.language_model.", "model.", 1)

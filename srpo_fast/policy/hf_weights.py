"""The policy's weights under their Hugging Face names: read by slices into this rank's shards, or gathered whole."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.transformer.transformer_layer import get_transformer_layer_offset
from torch import Tensor, nn

from srpo_fast.parallel import Parallel
from srpo_fast.policy.hf_directory import HFDirectory
from srpo_fast.policy.language_model import LanguageModel
from srpo_fast.policy.name_map import HeadLayout, Rule, rule_for


class HFWeights:
    """Of this rank's chunks; `gathered` is a collective over tensor-parallel ranks and pipeline stages."""

    def __init__(self, source: HFDirectory, chunks: "nn.ModuleList | list[LanguageModel]", parallel: Parallel) -> None:
        text_config = source.config.text_config
        self._layout = HeadLayout(text_config.num_attention_heads, text_config.num_key_value_heads)
        self._source, self._chunks, self._parallel = source, chunks, parallel

    @torch.no_grad()
    def load(self) -> None:
        """Fills this rank's parameters, reading of every file what they need and no more."""
        for rule, hf_names, parameter in self.parameters(with_tied_copy=True):
            sources = [self._source.slice(hf_name) for hf_name in hf_names]
            shard = rule.shard(sources, self._parallel.tp, self._parallel.tp_rank, self._layout)
            assert shard.shape == parameter.shape, f"{hf_names}: {tuple(shard.shape)} for {tuple(parameter.shape)}"
            parameter.copy_(shard)
            # Megatron marks shards as it initialises them, which we skip; the gradient norm leaves unmarked ones out
            parameter.tensor_model_parallel = rule.is_cut  # type: ignore[attr-defined]

    def gathered(self) -> Iterator[tuple[str, Tensor]]:
        """Every trained tensor whole, under its Hugging Face name, on every rank, one parameter's at a time."""
        for stage in range(self._parallel.pp):
            if self._parallel.pp == 1:
                yield from self._own()
            else:
                yield from self._of_stage(stage)

    def _own(self) -> Iterator[tuple[str, Tensor]]:
        tp, group = self._parallel.tp, parallel_state.get_tensor_model_parallel_group()
        for rule, hf_names, parameter in self.parameters():
            shards = [parameter.detach()]
            if tp > 1 and rule.is_cut:
                shards = [torch.empty_like(parameter) for _ in range(tp)]
                dist.all_gather(shards, parameter.detach().contiguous(), group=group)
            yield from zip(hf_names, rule.join(shards, self._layout), strict=True)

    def _of_stage(self, stage: int) -> Iterator[tuple[str, Tensor]]:
        group = parallel_state.get_pipeline_model_parallel_group()
        source = dist.get_global_rank(group, stage)
        is_mine = stage == self._parallel.pp_rank
        layout: list[Any] = [self._own_layout() if is_mine else None]
        dist.broadcast_object_list(layout, src=source, group=group)
        tensors = self._own()
        for name, shape, dtype in layout[0]:
            if is_mine:
                own_name, tensor = next(tensors)
                assert own_name == name, f"{own_name=} {name=}"
                tensor = tensor.contiguous()
            else:
                tensor = torch.empty(shape, dtype=dtype, device=self._parallel.device)
            dist.broadcast(tensor, src=source, group=group)
            yield name, tensor

    def _own_layout(self) -> list[tuple[str, torch.Size, torch.dtype]]:
        layout = []
        for rule, hf_names, parameter in self.parameters():
            shards = [parameter.detach().to("meta")] * (self._parallel.tp if rule.is_cut else 1)
            joined = rule.join(shards, self._layout)
            layout += [(name, tensor.shape, tensor.dtype) for name, tensor in zip(hf_names, joined, strict=True)]
        return layout

    def parameters(self, with_tied_copy: bool = False) -> Iterator[tuple[Rule, tuple[str, ...], nn.Parameter]]:
        """This rank's parameters and what they are made of.

        The last stage's copy of a tied embedding belongs to the first stage and is left out by default.
        """
        for number, chunk in enumerate(self._chunks):
            vp_stage = number if len(self._chunks) > 1 else None
            first_layer = get_transformer_layer_offset(chunk.config, vp_stage)
            for name, parameter in chunk.named_parameters():
                if name == "output_layer.weight" and chunk.share_embeddings_and_output_weights:
                    if not with_tied_copy:
                        continue
                    name = "embedding.word_embeddings.weight"
                rule, hf_names = rule_for(name, first_layer)
                yield rule, hf_names, parameter

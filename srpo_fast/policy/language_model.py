"""Qwen2.5's decoder on Megatron-core: GPTModel with M-RoPE over packed sequences and image features put in place.

What Transformer Engine would bring we bring ourselves, so that one layer spec serves GPU and CPU.
"""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    scatter_to_sequence_parallel_region,
)
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from srpo_fast.batch import MicroBatch
from srpo_fast.config import ConfigError
from srpo_fast.parallel import Parallel
from srpo_fast.policy.attention import VarlenCoreAttention, packing_of
from srpo_fast.policy.self_attention import QKVOrderedSelfAttention
from srpo_kernels import VocabShard


class RMSNorm(nn.Module):
    """y = x / rms(x) * weight; one kernel each way on CUDA, torch's own."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-6, **kwargs: object) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.size(-1),), self.weight, self.eps)


class LanguageModel(GPTModel):
    """A chunk of the decoder's layers, this rank's shard of them; embedding and head are in the first and last."""

    parallel: Parallel

    def forward(self, batch: MicroBatch, image_features: Tensor | None) -> Tensor:  # type: ignore[override]
        """Hidden states [T, 1, D] for the next stage, or from the last stage those [T, D] of all tokens for the head.

        batch: this rank's share. image_features: [F, D] of the step; the first stage replaces image tokens by them.
        """
        hidden = self._embed(batch, image_features) if self.pre_process else None
        angles = self._rotary_angles(batch.position_ids)
        hidden = self.decoder(
            hidden_states=hidden,
            attention_mask=None,
            packed_seq_params=packing_of(batch, angles, self.config.params_dtype, self.parallel),
        )
        return self._for_head(hidden) if self.post_process else hidden

    @property
    def head_weight(self) -> nn.Parameter:
        """[V_tp, D], of the last stage."""
        tied = self.share_embeddings_and_output_weights
        return self.shared_embedding_or_output_weight() if tied else self.output_layer.weight

    def _embed(self, batch: MicroBatch, image_features: Tensor | None) -> Tensor:
        embedded = self.embedding(input_ids=batch.input_ids[None], position_ids=None)
        if batch.image_rows.numel():
            assert image_features is not None, "a micro-batch has image tokens but the step has no image features"
            features = image_features[batch.feature_rows, None].to(embedded.dtype)
            embedded = embedded.index_copy(0, batch.image_rows, features)
        if self.config.sequence_parallel:
            return scatter_to_sequence_parallel_region(embedded, group=self.pg_collection.tp)
        return embedded

    def _rotary_angles(self, position_ids: Tensor) -> Tensor:
        """[T, d] fp32 from positions [3, T]: M-RoPE gives each section of the frequencies a row of its own."""
        frequencies = self.rotary_pos_emb.inv_freq.split(self.mrope_section)
        angles = [row[:, None] * f for row, f in zip(position_ids.float(), frequencies, strict=True)]
        return torch.cat(angles * 2, dim=-1)

    def _for_head(self, hidden: Tensor) -> Tensor:
        """[T, D] on every rank. A rank's gradient is that of its own columns and loss rows: backward adds them up."""
        if self.config.sequence_parallel:
            hidden = gather_from_sequence_parallel_region(hidden, group=self.pg_collection.tp)
        if self.parallel.cp > 1:
            hidden = gather_from_sequence_parallel_region(hidden, group=parallel_state.get_context_parallel_group())
        if not self.config.sequence_parallel:
            hidden = copy_to_tensor_model_parallel_region(hidden, group=self.pg_collection.tp)
        return hidden[:, 0]


def build_language_model(
    text_config: Any, dtype: torch.dtype, parallel: Parallel, *, tied: bool, recompute: str
) -> list[LanguageModel]:
    """This rank's chunks of the decoder that a Hugging Face Qwen2.5-VL text config describes, weights unset."""
    config = transformer_config(text_config, dtype, parallel, recompute)
    return [_build_chunk(text_config, config, parallel, chunk, tied) for chunk in range(parallel.chunks_per_stage)]


def _build_chunk(t: Any, config: TransformerConfig, parallel: Parallel, chunk: int, tied: bool) -> LanguageModel:
    number = chunk if parallel.chunks_per_stage > 1 else None
    layer = get_gpt_layer_local_spec(normalization="RMSNorm")
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = RMSNorm
    layer.submodules.self_attention.module = QKVOrderedSelfAttention
    layer.submodules.self_attention.submodules.core_attention = VarlenCoreAttention
    block = TransformerBlockSubmodules(
        layer_specs=[layer] * get_num_layers_to_build(config, number), layer_norm=RMSNorm
    )
    model = LanguageModel(
        config=config,
        transformer_layer_spec=ModuleSpec(module=None, submodules=block).submodules,
        vocab_size=t.vocab_size,
        max_sequence_length=t.max_position_embeddings,
        pre_process=parallel.pp_rank == 0 and chunk == 0,
        post_process=parallel.is_last_stage and chunk == parallel.chunks_per_stage - 1,
        share_embeddings_and_output_weights=tied,
        position_embedding_type="mrope",
        rotary_base=t.rope_parameters["rope_theta"],
        scatter_embedding_sequence_parallel=False,
        vp_stage=number,
    )
    model.parallel = parallel
    return model


def vocab_shard(vocab_size: int, banned_ids: tuple[int, ...], temperature: float, parallel: Parallel) -> VocabShard:
    """This rank's columns of the vocabulary, the banned ones numbered within them."""
    columns = vocab_size // parallel.tp
    start = parallel.tp_rank * columns
    banned = [token - start for token in banned_ids if start <= token < start + columns]
    return VocabShard(
        start=start,
        temperature=temperature,
        banned_columns=torch.tensor(banned, dtype=torch.int64, device=parallel.device) if banned else None,
        group=parallel_state.get_tensor_model_parallel_group() if parallel.tp > 1 else None,
    )


def layers_of_stages(layers: int, stages: int) -> list[int]:
    """As even as can be; the first stages have one more, since the last also has the head."""
    return [layers // stages + (stage < layers % stages) for stage in range(stages)]


def _pipeline_layout(layers: int, stages: int) -> list[list[str]] | None:
    if stages == 1:
        return None
    layout = [["decoder"] * count for count in layers_of_stages(layers, stages)]
    layout[0].insert(0, "embedding")
    layout[-1].append("loss")
    return layout


# The MLPs hold two thirds of a layer's activations for a third of its work; flash attention keeps little to recompute.
_RECOMPUTE: dict[str, dict[str, Any]] = {
    "none": {},
    "selective": {"recompute_granularity": "selective", "recompute_modules": ["mlp"]},
    "full": {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1},
}


def transformer_config(t: Any, dtype: torch.dtype, parallel: Parallel, recompute: str = "none") -> TransformerConfig:
    """Raises ConfigError where tp does not divide the model, or its layers are fewer than pipeline stages."""
    for what in ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"):
        if (size := getattr(t, what)) % parallel.tp:
            raise ConfigError(f"parallel.tp={parallel.tp} does not divide the model's {what}={size}; choose a divisor")
    stages = parallel.pp * parallel.chunks_per_stage
    if t.num_hidden_layers < stages:
        chunks = f" x chunks_per_stage={parallel.chunks_per_stage}" if parallel.chunks_per_stage > 1 else ""
        raise ConfigError(f"parallel.pp={parallel.pp}{chunks} is more than the model's {t.num_hidden_layers} layers")
    return TransformerConfig(
        num_layers=t.num_hidden_layers,
        hidden_size=t.hidden_size,
        ffn_hidden_size=t.intermediate_size,
        num_attention_heads=t.num_attention_heads,
        num_query_groups=t.num_key_value_heads,
        kv_channels=t.hidden_size // t.num_attention_heads,
        layernorm_epsilon=t.rms_norm_eps,
        mrope_section=t.rope_parameters["mrope_section"],
        normalization="RMSNorm",
        gated_linear_unit=True,
        activation_func=F.silu,
        add_bias_linear=False,
        add_qkv_bias=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        bf16=dtype == torch.bfloat16,
        tensor_model_parallel_size=parallel.tp,
        pipeline_model_parallel_size=parallel.pp,
        virtual_pipeline_model_parallel_size=parallel.chunks_per_stage if parallel.chunks_per_stage > 1 else None,
        pipeline_model_parallel_layout=_pipeline_layout(t.num_hidden_layers, stages),
        context_parallel_size=parallel.cp,
        sequence_parallel=parallel.sequence_parallel,
        variable_seq_lengths=parallel.chunks_per_stage == 1,
        moe_token_dispatcher_type="alltoall",  # variable lengths reject the default, though there are no experts
        calculate_per_token_loss=True,  # our token weights normalise; Megatron only sums
        batch_p2p_comm=False,
        perform_initialization=False,
        use_cpu_initialization=parallel.device.type == "cpu",
        # SwiGLU of gate and up where they lie, which keeps nothing else: torch.compile makes it one kernel each way on
        # CUDA; uncompiled, what it computes again would cost more than it saves
        bias_activation_fusion=parallel.device.type == "cuda",
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        **_RECOMPUTE[recompute],
    )

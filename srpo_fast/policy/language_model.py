"""Qwen2.5's decoder on Megatron-core: GPTModel with M-RoPE over packed sequences and image features put in place.

What Transformer Engine would bring we bring ourselves, so that one layer spec serves GPU and CPU.
"""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from srpo_fast.batch import MicroBatch
from srpo_fast.config import ConfigError
from srpo_fast.parallel import Parallel
from srpo_fast.policy.attention import VarlenCoreAttention


class RMSNorm(nn.Module):
    """y = x / rms(x) * weight."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-6, **kwargs: object) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.size(-1),), self.weight, self.eps)


class LanguageModel(GPTModel):
    """This rank's shard and stage of the decoder."""

    def forward(self, batch: MicroBatch, image_features: Tensor | None) -> Tensor:  # type: ignore[override]
        """Hidden states [T, 1, D] for the next stage, or from the last stage logits [R, V_tp] of batch.loss_rows.

        image_features: [F, D] of the step; the first stage replaces image tokens by them.
        """
        hidden = self._embed(batch, image_features) if self.pre_process else None
        hidden = self.decoder(
            hidden_states=hidden,
            attention_mask=None,
            rotary_pos_emb=self.rotary_pos_emb(batch.position_ids[:, None], self.mrope_section),
            packed_seq_params=PackedSeqParams(
                qkv_format="thd",
                cu_seqlens_q=batch.cu_seqlens,
                cu_seqlens_kv=batch.cu_seqlens,
                max_seqlen_q=batch.max_seqlen,
                max_seqlen_kv=batch.max_seqlen,
            ),
        )
        if not self.post_process:
            return hidden
        # rows without a loss never reach the head
        rows = hidden.index_select(0, batch.loss_rows)
        weight = self.shared_embedding_or_output_weight() if self.share_embeddings_and_output_weights else None
        logits, _ = self.output_layer(rows, weight=weight)
        return logits[:, 0]

    def _embed(self, batch: MicroBatch, image_features: Tensor | None) -> Tensor:
        embedded = self.embedding(input_ids=batch.input_ids[None], position_ids=None)
        if not batch.image_rows.numel():
            return embedded
        assert image_features is not None, "a micro-batch has image tokens but the step has no image features"
        return embedded.index_copy(0, batch.image_rows, image_features[batch.feature_rows, None].to(embedded.dtype))


def build_language_model(text_config: Any, dtype: torch.dtype, parallel: Parallel, *, tied: bool) -> LanguageModel:
    """The decoder that a Hugging Face Qwen2.5-VL text config describes, weights unset."""
    t = text_config
    megatron_config = transformer_config(t, dtype, parallel)
    layer = get_gpt_layer_local_spec(normalization="RMSNorm")
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = RMSNorm
    layer.submodules.self_attention.submodules.core_attention = VarlenCoreAttention
    block = TransformerBlockSubmodules(
        layer_specs=[layer] * get_num_layers_to_build(megatron_config), layer_norm=RMSNorm
    )
    return LanguageModel(
        config=megatron_config,
        transformer_layer_spec=ModuleSpec(module=None, submodules=block).submodules,
        vocab_size=t.vocab_size,
        max_sequence_length=t.max_position_embeddings,
        pre_process=parallel.pp_rank == 0,
        post_process=parallel.is_last_stage,
        share_embeddings_and_output_weights=tied,
        position_embedding_type="mrope",
        rotary_base=t.rope_parameters["rope_theta"],
        scatter_embedding_sequence_parallel=False,
    )


def transformer_config(t: Any, dtype: torch.dtype, parallel: Parallel) -> TransformerConfig:
    """Raises ConfigError where tp does not divide the model, or pp exceeds its layers."""
    for what, size, ways in (
        ("num_attention_heads", t.num_attention_heads, parallel.tp),
        ("num_key_value_heads", t.num_key_value_heads, parallel.tp),
        ("intermediate_size", t.intermediate_size, parallel.tp),
        ("vocab_size", t.vocab_size, parallel.tp),
    ):
        if size % ways:
            raise ConfigError(f"parallel.tp={ways} does not divide the model's {what}={size}; choose a divisor")
    if t.num_hidden_layers < parallel.pp:
        raise ConfigError(f"parallel.pp={parallel.pp} is more than the model's {t.num_hidden_layers} layers")
    layers_a_stage, left_over = divmod(t.num_hidden_layers, parallel.pp)
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
        num_layers_in_first_pipeline_stage=layers_a_stage + left_over if left_over else None,
        variable_seq_lengths=True,
        moe_token_dispatcher_type="alltoall",  # variable lengths reject the default, though there are no experts
        calculate_per_token_loss=True,  # our token weights normalise; Megatron only sums
        batch_p2p_comm=False,
        perform_initialization=False,
        use_cpu_initialization=parallel.device.type == "cpu",
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
    )

"""Self-attention whose fused query-key-value product has its rows as the engine has them.

Megatron interleaves: for every key/value head its query heads, then the key, then the value. Here a rank's rows are its
queries, then its keys, then its values, so that the parameter can be copied into the engine's as it is, or be it.
"""

from typing import Any

import torch
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.mapping import ReplicaId, ShardedTensorFactory
from megatron.core.transformer.attention import SelfAttention
from torch import Tensor


class QKVOrderedSelfAttention(SelfAttention):
    """Megatron's, but for the order of linear_qkv's rows."""

    @property
    def _rows(self) -> list[int]:
        """How many of this rank's rows are queries, keys and values."""
        heads = (self.num_attention_heads_per_partition, *[self.num_query_groups_per_partition] * 2)
        return [count * self.hidden_size_per_attention_head for count in heads]

    def get_query_key_value_tensors(
        self, hidden_states: Tensor, key_value_states: None = None, output_gate: bool = False, split_qkv: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[T, 1, D] -> query [T, 1, H, d], key and value [T, 1, K, d] of this rank's heads."""
        mixed, _ = self.linear_qkv(hidden_states)
        size = self.hidden_size_per_attention_head
        query, key, value = (part.unflatten(-1, (-1, size)) for part in mixed.split(self._rows, dim=-1))
        return query, key, value

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple[Any, ...] = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """As Megatron's; queries, keys and values are tensors of their own on disk, so that tp may change."""
        state = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        for kind in ("weight", "bias"):
            name = f"{prefix}linear_qkv.{kind}"
            state[name] = _by_parts(state[name], self._rows, sharded_offsets)
        return state


def _by_parts(fused: ShardedTensor, rows: list[int], sharded_offsets: tuple[Any, ...]) -> ShardedTensorFactory:
    """The shard of a fused parameter as three shards, each cut along its rows by tensor parallelism."""
    axis = len(sharded_offsets)
    rank, ranks = fused.global_offset[axis] // fused.local_shape[0], fused.axis_fragmentations[axis]

    def parts(key: str, tensor: Tensor, replica_id: ReplicaId, flattened_range: slice | None) -> list[ShardedTensor]:
        return [
            ShardedTensor.from_rank_offsets(
                f"{key}.{name}", part, *sharded_offsets, (axis, rank, ranks), replica_id=replica_id,
                prepend_axis_num=axis,
            )
            for name, part in zip("qkv", tensor.split(rows), strict=True)
        ]  # fmt: skip

    return ShardedTensorFactory(
        fused.key, fused.data, parts, torch.cat, fused.replica_id, flattened_range=fused.flattened_range
    )

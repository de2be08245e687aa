"""A rank's share of a micro-batch: nothing is lost, doubled or seen that should not be."""

import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from srpo_fast.batch import MicroBatch
from srpo_fast.policy import attention
from srpo_fast.policy.attention import Packing, can_flash, flash_attention
from srpo_fast.policy.rows import AttentionSpans, attention_spans, empty_like, loss_rows_of_rank, share_of_rank
from tests.policy_case import make_sequences, packer

SIZES = [(2, 1, False), (3, 1, False), (4, 2, True), (1, 2, True)]


@pytest.fixture(scope="module")
def batch(one_process, untrained_model) -> MicroBatch:
    (batch,) = packer(untrained_model, one_process, 4096)(make_sequences(untrained_model)).micro_batches
    return replace(batch, ref_logprobs=batch.labels / 7)


@pytest.fixture(scope="module")
def shared_batch(one_process, untrained_model) -> MicroBatch:
    """Two completions of every prompt, which they share."""
    pack = packer(untrained_model, one_process, 4096, share_prompts=True)
    (batch,) = pack(make_sequences(untrained_model)).micro_batches
    return batch


@pytest.fixture(params=SIZES, ids=lambda size: "cp{}_tp{}_sp{}".format(*size))
def ranks(request, one_process):
    """One Parallel a context-parallel rank."""
    cp, tp, sequence_parallel = request.param
    sizes = {"world": cp * tp, "cp": cp, "tp": tp, "sequence_parallel": sequence_parallel}
    return [replace(one_process, rank=tp * number, **sizes) for number in range(cp)]


def keys_seen(spans: AttentionSpans) -> list[set[int]]:
    """The rows of all ranks that each of a rank's queries sees, by the rule of a causal kernel with fewer queries."""
    seen = []
    q_bounds, k_bounds, rows = spans.cu_seqlens_q.tolist(), spans.cu_seqlens_kv.tolist(), torch.arange(9999)[spans.kv]
    for s in range(len(q_bounds) - 1):
        queries = q_bounds[s + 1] - q_bounds[s]
        seen += [set(rows[k_bounds[s] : k_bounds[s + 1] - queries + n + 1].tolist()) for n in range(queries)]
    return seen


def test_ranks_hold_every_token_once_and_in_order(batch, ranks):
    shares = [share_of_rank(batch, parallel) for parallel in ranks]
    tokens = len(batch.input_ids)
    assert torch.equal(torch.cat([s.input_ids for s in shares])[:tokens], batch.input_ids)
    assert torch.equal(torch.cat([s.position_ids for s in shares], dim=1)[:, :tokens], batch.position_ids)
    (length,) = {len(s.input_ids) for s in shares}
    assert length % (ranks[0].tp if ranks[0].sequence_parallel else 1) == 0
    assert 0 <= length * len(ranks) - tokens < len(ranks) * ranks[0].tp


def test_image_tokens_keep_their_features(batch, ranks):
    features = []
    for share in [share_of_rank(batch, parallel) for parallel in ranks]:
        assert (share.input_ids[share.image_rows] == batch.input_ids[batch.image_rows[0]]).all()
        features += share.feature_rows.tolist()
    assert features == batch.feature_rows.tolist()


def test_every_sequence_is_scored_whole_on_one_rank(batch, ranks):
    chosen = torch.stack([loss_rows_of_rank(batch, parallel) for parallel in ranks])
    assert (chosen.sum(0) == 1).all()
    sequence_of_row = (batch.loss_rows[:, None] >= batch.cu_seqlens[1:]).sum(1)
    for number in range(len(batch.cu_seqlens) - 1):
        assert chosen[:, sequence_of_row == number].all(dim=1).sum() == 1
    for parallel, rows in zip(ranks, chosen, strict=True):
        share = share_of_rank(batch, parallel)
        assert torch.equal(share.loss_rows, batch.loss_rows[rows])
        assert torch.equal(share.labels, batch.labels[rows])
        assert torch.equal(share.advantages, batch.advantages[rows])
        assert torch.equal(share.ref_logprobs, batch.labels[rows] / 7)
        assert share.old_logprobs is None
        all_rows, own_rows = batch.row_offsets.diff(), share.row_offsets.diff()
        assert len(own_rows) == len(all_rows)
        assert torch.equal(own_rows, torch.where(own_rows > 0, all_rows, 0))
        assert own_rows.sum() == len(share.loss_rows)


def test_a_query_sees_its_sequence_up_to_itself(batch, ranks):
    bounds = share_of_rank(batch, ranks[0]).cu_seqlens
    seen = [keys for parallel in ranks for keys in keys_seen(attention_spans(bounds, None, parallel))]
    assert len(seen) == bounds[-1]
    for row, keys in enumerate(seen):
        start = max(bound for bound in bounds.tolist() if bound <= row)
        assert keys == set(range(start, row + 1))


def test_a_query_sees_the_prompt_it_shares_and_its_completion_up_to_itself(shared_batch, ranks):
    tokens, bounds = len(shared_batch.input_ids), shared_batch.cu_seqlens.tolist()
    share = share_of_rank(shared_batch, ranks[0], tokens + 1)
    seen = [keys for parallel in ranks for keys in keys_seen(attention_spans(share.cu_seqlens, share.keys, parallel))]
    for number, (start, end) in enumerate(pairwise(bounds)):
        prompt: set[int] = set()
        if number % 2:  # the second of its prompt: behind the first, whose prompt ends where its loss begins
            first = shared_batch.row_offsets[number - 1]
            prompt = set(range(bounds[number - 1], int(shared_batch.loss_rows[first]) + 1))
        for row in range(start, end):
            assert seen[row] == prompt | set(range(start, row + 1))
    assert len(seen) == share.cu_seqlens[-1] > tokens
    assert all(min(keys) >= tokens for keys in seen[tokens:])  # padding sees padding


@pytest.mark.parametrize("at_least", [0, 1000])
def test_padding_is_sequences_of_its_own_without_images_or_loss(batch, one_process, at_least):
    parallel = replace(one_process, world=8, tp=8, sequence_parallel=True)
    padded = share_of_rank(batch, parallel, at_least)
    assert len(padded.input_ids) == padded.cu_seqlens[-1] >= at_least
    assert len(padded.input_ids) % 8 == 0
    assert torch.equal(padded.cu_seqlens[: len(batch.cu_seqlens)], batch.cu_seqlens)
    assert padded.cu_seqlens.diff().max() == padded.max_seqlen == batch.max_seqlen
    assert padded.cu_seqlens.diff().min() > 0
    for name in ("loss_rows", "labels", "token_weights", "image_rows", "feature_rows"):
        assert torch.equal(getattr(padded, name), getattr(batch, name))


def test_an_empty_micro_batch_has_one_token_and_no_loss(batch):
    empty = empty_like(batch)
    assert len(empty.input_ids) == empty.position_ids.shape[1] == 1
    assert empty.cu_seqlens.tolist() == [0, 1]
    for name in ("loss_rows", "labels", "token_weights", "rollout_logprobs", "image_rows", "feature_rows"):
        assert len(getattr(empty, name)) == 0
    assert empty.row_offsets[-1] == 0


def test_torchs_attention_kernel_is_called_as_its_version_wants(monkeypatch):
    """torch 2.13 has to be told that there are fewer key heads; 2.11 cannot be, and takes them."""
    monkeypatch.setattr(attention, "has_flash_attn", lambda: False)
    bounds = torch.tensor([0, 5, 12], dtype=torch.int32, device="meta")
    packing = Packing(qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=7, max_seqlen_kv=7)
    query, key = torch.empty(12, 4, 16, device="meta"), torch.empty(12, 2, 16, device="meta")
    assert flash_attention(query, key, key, packing, 0.25).shape == query.shape

    def of_torch_2_11(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size):
        assert window_size == (-1, 0)
        return query

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", of_torch_2_11)
    assert flash_attention(query, key, key, packing, 0.25) is query


def test_the_package_flash_attn_is_taken_where_it_is_installed(monkeypatch):
    asked = {}

    def varlen(*inputs, softmax_scale, causal):
        asked.update(scale=softmax_scale, causal=causal, bounds=inputs[3:])
        return inputs[0]

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=varlen))
    monkeypatch.setattr(attention, "distributions", lambda name: [])
    assert not attention.has_flash_attn.__wrapped__()  # a module of that name is not yet the package
    monkeypatch.setattr(attention, "has_flash_attn", lambda: True)
    bounds = torch.tensor([0, 5, 12], dtype=torch.int32)
    packing = Packing(qkv_format="thd", cu_seqlens_q=bounds, cu_seqlens_kv=bounds, max_seqlen_q=7, max_seqlen_kv=8)
    query = torch.randn(12, 4, 16)
    assert flash_attention(query, query, query, packing, 0.25) is query
    assert asked == {"scale": 0.25, "causal": True, "bounds": (bounds, bounds, 7, 8)}


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [("cuda", "bfloat16", True), ("cuda", "float32", False), ("cpu", "bfloat16", False)],
)
def test_only_16_bits_on_a_gpu_go_through_flash_attention(device, dtype, expected):
    """Its kernels refuse fp32, in which the embedded run trains."""
    assert can_flash(torch.device(device), getattr(torch, dtype)) is expected

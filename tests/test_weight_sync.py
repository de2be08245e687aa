"""Syncs of both kinds, on two ranks with real engines; what one engine alone can show is in test_rollout.py."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from srpo_fast.rollout.engine_names import engine_name
from srpo_fast.weight_sync import fill_engine
from tests.launch import run_on_ranks
from tests.policy_parity import write_parity_model

AGREEMENT = 1e-5  # nats, fp32; found: 3e-6 and less
LAYOUTS = {"tp_sp": ("untied", "frozen"), "pp": ("untied", "vision"), "dp": ("tied", "vision")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("tied", "untied"):
        write_parity_model(folder / name, tied=name == "tied")
    return folder


@pytest.fixture(scope="module", params=LAYOUTS)
def found(request: pytest.FixtureRequest, models: Path) -> list[dict[str, Any]]:
    """What every rank saw."""
    model, vision = LAYOUTS[request.param]
    result = run_on_ranks(2, "tests/sync_on_ranks.py", str(models / model), request.param, vision)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_after_every_sync_engine_and_policy_are_one(found):
    for rank in found:
        assert rank["start"] <= AGREEMENT
        for mode in ("copy", "alias"):
            assert len(rank[mode]["mismatches"]) == 3
            assert max(rank[mode]["mismatches"]) <= AGREEMENT
        assert rank["unsynced"] > 100 * AGREEMENT  # an update is far more than the agreement asked for


def test_engines_cut_in_two_take_prompts_together(found):
    for rank in found:
        assert rank["on_demand"] == rank["by_length"] == found[0]["by_length"]
        assert all(len(tokens) > 0 for group in rank["on_demand"] for tokens in group)


def test_a_copy_moves_the_ranks_shard_once_and_an_alias_nothing(found):
    for rank in found:
        assert rank["copy"]["bytes_copied"] == rank["copy"]["shard_bytes"] == rank["policy_bytes"] > 1_000_000
        assert rank["alias"]["bytes_copied"] == 0
        assert rank["alias"]["shard_bytes"] == rank["policy_bytes"]
        assert rank["largest_allocation"] <= rank["largest_shard"]


def test_one_changed_bit_is_noticed_on_every_rank(found):
    (message,) = {rank["sabotaged"] for rank in found}
    assert "the engine's language_model.model.layers." in message
    assert "mlp.down_proj.weight is not the policy's (1 of " in message


def engine_and_policy() -> tuple[dict[str, nn.Parameter], SimpleNamespace]:
    """An engine whose vocabulary is padded by two rows, and a first pipeline stage, without the head."""
    rows = {"model.embed_tokens.weight": 4, "model.layers.0.self_attn.q_proj.weight": 6}
    shards = [((name,), nn.Parameter(torch.randn(count, 3))) for name, count in rows.items()]
    engine = {
        "language_model.model.embed_tokens.weight": nn.Parameter(torch.full((6, 3), torch.nan)),
        "language_model.model.layers.0.self_attn.qkv_proj.weight": nn.Parameter(torch.full((6, 3), torch.nan)),
        "language_model.lm_head.weight": nn.Parameter(torch.full((6, 3), torch.nan)),
    }
    return engine, SimpleNamespace(shards=lambda: iter(shards))


@pytest.mark.parametrize("weights", ["copy", "alias"])
def test_an_engine_starts_with_what_its_rank_has_of_the_policy(weights):
    engine, policy = engine_and_policy()
    fill_engine(policy, weights, engine)
    (_, embedding), (_, attention) = policy.shards()
    padded, whole, absent = engine.values()
    assert torch.equal(padded, torch.cat([embedding, torch.zeros(2, 3)]))
    assert torch.equal(whole, attention)
    assert not absent.any()
    assert (whole.data_ptr() == attention.data_ptr()) == (weights == "alias")
    assert padded.data_ptr() != embedding.data_ptr()
    fill_engine(policy, weights, engine)  # again harms neither
    assert torch.equal(whole, attention)
    assert attention.any()


@pytest.mark.parametrize("change", [lambda t: t.bfloat16(), lambda t: t[:, :2], lambda t: torch.cat([t, t])])
def test_what_does_not_fit_is_left_to_the_plan(change):
    engine, policy = engine_and_policy()
    _, (_, attention) = policy.shards()
    attention.data = change(attention.data)
    fill_engine(policy, "alias", engine)
    assert not engine["language_model.model.layers.0.self_attn.qkv_proj.weight"].any()


def test_published_names_lead_to_the_engines():
    q, k, v = (f"model.layers.3.self_attn.{part}_proj.bias" for part in "qkv")
    assert engine_name((q, k, v)) == "language_model.model.layers.3.self_attn.qkv_proj.bias"
    gate, up = (f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up"))
    assert engine_name((gate, up)) == "language_model.model.layers.0.mlp.gate_up_proj.weight"
    assert engine_name(("visual.blocks.0.mlp.gate_proj.weight",)) == "visual.blocks.0.mlp.gate_proj.weight"
    assert engine_name(("lm_head.weight",)) == "language_model.lm_head.weight"
    assert engine_name(("model.norm.weight",)) == "language_model.model.norm.weight"

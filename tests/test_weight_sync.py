"""Syncs of both kinds, on two ranks with real engines; what one engine alone can show is in test_rollout.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from srpo_fast.rollout.engine_names import engine_name
from tests.launch import run_script
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
    result = run_script("tests/sync_on_ranks.py", str(models / model), request.param, vision, ranks=2)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_after_every_sync_engine_and_policy_are_one(found):
    for rank in found:
        assert rank["start"] <= AGREEMENT
        for mode in ("copy", "alias"):
            assert len(rank[mode]["mismatches"]) == 3
            assert max(rank[mode]["mismatches"]) <= AGREEMENT
        assert rank["unsynced"] > 100 * AGREEMENT  # an update is far more than the agreement asked for


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


def test_published_names_lead_to_the_engines():
    q, k, v = (f"model.layers.3.self_attn.{part}_proj.bias" for part in "qkv")
    assert engine_name((q, k, v)) == "language_model.model.layers.3.self_attn.qkv_proj.bias"
    gate, up = (f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up"))
    assert engine_name((gate, up)) == "language_model.model.layers.0.mlp.gate_up_proj.weight"
    assert engine_name(("visual.blocks.0.mlp.gate_proj.weight",)) == "visual.blocks.0.mlp.gate_proj.weight"
    assert engine_name(("lm_head.weight",)) == "language_model.lm_head.weight"
    assert engine_name(("model.norm.weight",)) == "language_model.model.norm.weight"

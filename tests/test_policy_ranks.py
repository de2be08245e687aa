"""Two ranks, however they share the model, make the updates that one makes, and resume each other's checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import apply_factories

from srpo_fast.checkpoint import load_latest
from srpo_fast.config import ConfigError
from srpo_fast.policy.hf_directory import HFDirectory
from tests.launch import run_on_ranks
from tests.objective_case import OBJECTIVES, move_from_reference, updates
from tests.policy_case import OPTIMIZER, largest_relative_error, make_sequences, open_policy, packer
from tests.policy_on_ranks import (
    ECONOMICAL,
    ECONOMICAL_LAYOUTS,
    LAYOUTS,
    OF_OBJECTIVES,
    RESUMES,
    largest_difference,
    one_update,
    reference_of,
    resume,
)

LAYERS_OF_RANK_0 = {"pp": 2}  # three layers do not divide by two stages


@pytest.fixture(scope="module")
def one_rank(one_process, untrained_model) -> dict[str, Any]:
    """Loss, gradient norm and weights of the first two updates."""
    policy = open_policy(untrained_model, one_process)
    policy.new_optimizer(OPTIMIZER)
    batch = packer(untrained_model, one_process, 4096)(make_sequences(untrained_model))
    return {"first": one_update(policy, batch), "second": one_update(policy, batch)}


@pytest.fixture(scope="module")
def out(untrained_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy_on_ranks")
    result = run_on_ranks(2, "tests/policy_on_ranks.py", str(untrained_model), str(folder))
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def objectives_of_one_rank(one_process, untrained_model) -> dict[str, Any]:
    policy = open_policy(untrained_model, one_process)
    move_from_reference(policy)
    return updates(policy, untrained_model, one_process, 4096)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loss_gradient_and_weights_are_those_of_one_rank(one_rank, out, layout):
    ranks = torch.load(out / f"{layout}.pt")
    assert ranks["layers"] == LAYERS_OF_RANK_0.get(layout, 3)
    for update in ("first", "second"):
        found, expected = ranks[update], one_rank[update]
        assert found["metrics"] == pytest.approx(expected["metrics"], abs=1e-4)
        assert found["metrics"]["loss"] == pytest.approx(expected["metrics"]["loss"], abs=1e-5)
        assert largest_relative_error(found["gradients"], expected["gradients"]) < 1e-5
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5)
        assert largest_difference(found["weights"], expected["weights"]) < 1e-5


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("layout", OF_OBJECTIVES)
def test_the_gradient_of_every_objective_is_that_of_one_rank(objectives_of_one_rank, out, layout, objective):
    ranks, one = torch.load(out / f"{layout}_objectives.pt")[objective], objectives_of_one_rank[objective]
    assert largest_relative_error(ranks["gradients"], one["gradients"]) < 1e-5
    assert ranks["metrics"] == pytest.approx(one["metrics"], rel=1e-4, abs=1e-6)  # sums in fp32


@pytest.mark.parametrize(("saved", "resumed"), RESUMES)
def test_a_checkpoint_continues_in_any_layout_as_if_never_stopped(out, saved, resumed):
    expected = torch.load(out / f"{saved}.pt")["second"]
    check_same_update(torch.load(out / f"{saved}_to_{resumed}.pt"), expected)
    if saved == resumed:
        found = torch.load(out / f"{saved}_to_{resumed}.pt")
        assert largest_difference(found["weights"], expected["weights"]) == 0


@pytest.mark.parametrize("saved", ["tp", "pp", "dp", "dp_distributed"])
def test_a_checkpoint_of_two_ranks_continues_on_one(one_process, untrained_model, out, saved):
    parallel = replace(one_process, distributed_optimizer="distributed" in saved)
    expected = torch.load(out / f"{saved}.pt")["second"]
    check_same_update(resume(untrained_model, parallel, out / saved / "checkpoints"), expected)


def test_a_checkpoint_brings_the_reference_back(one_process, untrained_model, out):
    policy = open_policy(untrained_model, one_process)
    policy.keep_reference()
    batch = packer(untrained_model, one_process, 4096)(make_sequences(untrained_model))
    expected = reference_of(policy, batch)
    for file in [*(f"{saved}_to_{resumed}" for saved, resumed in RESUMES), *LAYOUTS]:
        assert torch.load(out / f"{file}.pt")["reference"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("layout", ECONOMICAL_LAYOUTS)
def test_an_economical_optimizer_goes_on_bit_for_bit_and_copies_stay_alike(out, layout):
    found = torch.load(out / f"{layout}_economical.pt")
    assert largest_difference(found["resumed"], found["trained"]) == 0
    assert all(largest_difference(weights, found["trained"]) == 0 for weights in found["of_ranks"])


@pytest.mark.parametrize("layout", ECONOMICAL_LAYOUTS)
def test_one_rank_reads_the_economical_state_of_two_bit_for_bit(one_process, untrained_model, out, layout):
    parallel = replace(one_process, distributed_optimizer="distributed" in layout)
    policy = open_policy(untrained_model, parallel, "bfloat16")
    policy.new_optimizer(ECONOMICAL)
    saved = load_latest(out / f"{layout}_economical" / "checkpoints", parallel)
    policy.load_state_dict(saved.read_policy(policy.sharded_state_dict(is_loading=True)))
    content = dist_checkpointing.load_plain_tensors(str(saved.folder / "policy"))
    on_disk = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    read = policy.sharded_state_dict()
    apply_factories(read)
    shards = [shard for shard in nested_values(read) if isinstance(shard, ShardedTensor)]
    assert {shard.key for shard in shards} == on_disk.keys()
    # weights, masters and both moments; 23 parameters, of which a layer's gate and up are two shards, and weight and
    # bias of its queries, keys and values three
    assert len(shards) == 4 * (26 + 3 * 2 * 2)
    for shard in shards:
        assert torch.equal(on_disk[shard.key][shard.global_slice()].view_as(shard.data), shard.data), shard.key


def check_same_update(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5)
    assert largest_difference(found["weights"], expected["weights"]) < 1e-5


def test_without_the_optimizers_state_the_resumed_weights_differ(one_process, untrained_model, out):
    """What the tests above would miss if no state were read."""
    saved = load_latest(out / "tp" / "checkpoints", one_process)
    policy = open_policy(untrained_model, one_process)
    policy.load_state_dict(saved.read_policy(policy.sharded_state_dict(is_loading=True)))
    policy.new_optimizer(OPTIMIZER)
    batch = packer(untrained_model, one_process, 4096)(make_sequences(untrained_model))
    expected = torch.load(out / "tp.pt")["second"]
    assert largest_difference(one_update(policy, batch)["weights"], expected["weights"]) > 1e-5


def test_a_distributed_optimizer_is_not_resumed_as_an_ordinary_one(one_process, out):
    with pytest.raises(ConfigError, match=r"saved with parallel\.distributed_optimizer=true; resume with the same"):
        load_latest(out / "dp_distributed" / "checkpoints", one_process)


def test_a_checkpoint_of_another_model_is_refused(one_process, untrained_model, out):
    saved = load_latest(out / "tp" / "checkpoints", one_process)
    policy = open_policy(untrained_model, one_process)
    template = policy.sharded_state_dict(is_loading=True)
    template["weights"]["chunk0"]["decoder.layers.7.mlp.linear_fc2.weight"] = replace(
        template["weights"]["chunk0"]["decoder.final_layernorm.weight"], key="decoder.layers.mlp.linear_fc3.weight"
    )
    with pytest.raises(ConfigError, match=r"is not one of this policy .* was model\.path or"):
        saved.read_policy(template)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_export_of_two_ranks_is_whole(one_rank, out, layout, untrained_model):
    exported, base = HFDirectory(out / layout / "hf"), HFDirectory(untrained_model)
    assert exported.tensor_names == base.tensor_names
    weights = one_rank["first"]["weights"]
    assert largest_difference({name: exported.tensor(name) for name in weights}, weights) < 1e-5

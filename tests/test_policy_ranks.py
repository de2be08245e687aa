"""Two ranks, however they share the model, make the update that one makes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from srpo_fast.config import LossConfig
from srpo_fast.loss import objective_of, srpo_loss
from srpo_fast.policy.hf_directory import HFDirectory
from tests.launch import run_script
from tests.objective_case import OBJECTIVES, move_from_reference, updates
from tests.policy_case import OPTIMIZER, gradients_of, largest_relative_error, make_sequences, open_policy, packer
from tests.policy_on_ranks import LAYOUTS

LAYERS_OF_RANK_0 = {"tp": 3, "pp": 2, "dp": 3}  # three layers do not divide by two stages


@pytest.fixture(scope="module")
def one_rank(one_process, untrained_model) -> dict[str, Any]:
    """Loss, gradient norm and weights of the first two updates."""
    policy = open_policy(untrained_model, one_process)
    policy.new_optimizer(OPTIMIZER)
    batch = packer(untrained_model, one_process, 4096)(make_sequences(untrained_model))
    result: dict[str, Any] = {}
    for update in ("first", "second"):
        metrics = policy.forward_backward(batch, srpo_loss(objective_of(LossConfig())))
        gradients = gradients_of(policy)
        grad_norm = policy.step(OPTIMIZER.lr)
        result |= {update: {name: tensor.clone() for name, tensor in policy.hf_weights()}}
        result = {
            "metrics": metrics,
            "gradients": gradients,
            "grad_norm": grad_norm,
        } | result  # those of the first update stay
    return result


@pytest.fixture(scope="module")
def out(untrained_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy_on_ranks")
    result = run_script("tests/policy_on_ranks.py", str(untrained_model), str(folder), ranks=2)
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def objectives_of_one_rank(one_process, untrained_model) -> dict[str, Any]:
    policy = open_policy(untrained_model, one_process)
    move_from_reference(policy)
    return updates(policy, untrained_model, one_process, 4096)


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_loss_gradient_and_weights_are_those_of_one_rank(one_rank, out, layout):
    ranks = torch.load(out / f"{layout}.pt")
    assert ranks["metrics"] == pytest.approx(one_rank["metrics"], abs=1e-4)
    assert ranks["metrics"]["loss"] == pytest.approx(one_rank["metrics"]["loss"], abs=1e-5)
    assert largest_relative_error(ranks["gradients"], one_rank["gradients"]) < 1e-5
    assert ranks["grad_norm"] == pytest.approx(one_rank["grad_norm"], rel=1e-5)
    assert largest_difference(ranks["first"], one_rank["first"]) < 1e-5
    assert ranks["layers"] == LAYERS_OF_RANK_0[layout]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_of_two_ranks_continues_as_if_never_stopped(one_rank, out, layout):
    ranks = torch.load(out / f"{layout}.pt")
    assert largest_difference(ranks["resumed"], ranks["second"]) == 0
    assert largest_difference(ranks["second"], one_rank["second"]) < 1e-5


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_of_every_objective_is_that_of_one_rank(objectives_of_one_rank, out, layout, objective):
    ranks, one = torch.load(out / f"{layout}.pt")["objectives"][objective], objectives_of_one_rank[objective]
    assert largest_relative_error(ranks["gradients"], one["gradients"]) < 1e-5
    assert ranks["metrics"] == pytest.approx(one["metrics"], rel=1e-4, abs=1e-6)  # sums in fp32


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_of_two_ranks_brings_the_reference_back(out, layout):
    ranks = torch.load(out / f"{layout}.pt")
    assert ranks["reference_resumed"]
    assert ranks["untouched_by_reference"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_export_of_two_ranks_is_whole(one_rank, out, layout, untrained_model):
    exported, base = HFDirectory(out / layout / "hf"), HFDirectory(untrained_model)
    assert exported.tensor_names == base.tensor_names
    assert largest_difference({n: exported.tensor(n) for n in one_rank["first"]}, one_rank["first"]) < 1e-5

"""The economical optimizer inside Megatron's: the same updates, saved and resumed, on one rank."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from srpo_fast.config import ConfigError, LossConfig
from srpo_fast.loss import objective_of, srpo_loss
from srpo_fast.policy import Policy
from srpo_fast.policy.sharded_state import read_sharded, write_sharded
from tests.policy_case import OPTIMIZER, make_sequences, open_policy, packer

SRPO = srpo_loss(objective_of(LossConfig()))
EXACT: list[dict[str, Any]] = [{"master_weights": "remainder"}, {"master_weights": "remainder", "offload": True}]
SMALLEST = {"master_weights": "remainder", "moments": "bfloat16", "offload": True}


class Case:
    """Opens policies and trains them, in bf16 unless said otherwise."""

    def __init__(self, model_dir, parallel) -> None:
        self.model_dir, self.parallel = model_dir, parallel
        self.batch = packer(model_dir, parallel, 4096)(make_sequences(model_dir))

    def open(self, dtype: str = "bfloat16", **settings: Any) -> Policy:
        policy = open_policy(self.model_dir, self.parallel, dtype)
        policy.new_optimizer(OPTIMIZER.model_copy(update=settings))
        return policy

    def weights_after(self, policy: Policy, updates: int) -> dict[str, Tensor]:
        for _ in range(updates):
            policy.forward_backward(self.batch, SRPO)
            policy.step(1e-3)
        return {name: tensor.clone() for name, tensor in policy.hf_weights()}


@pytest.fixture(params=[False, True], ids=["whole", "distributed"])
def case(request, one_process, untrained_model) -> Case:
    return Case(untrained_model, replace(one_process, distributed_optimizer=request.param))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_updates_have_the_bits_of_megatrons_fp32_masters(case):
    expected = case.weights_after(case.open(), 3)
    for settings in EXACT:
        assert same(case.weights_after(case.open(**settings), 3), expected)
    assert not same(case.weights_after(case.open(**SMALLEST), 3), expected)  # bf16 moments are other moments


def test_fp32_weights_are_updated_as_ever_from_the_host(case):
    expected = case.weights_after(case.open("float32"), 2)
    assert same(case.weights_after(case.open("float32", offload=True), 2), expected)


@pytest.mark.parametrize("settings", [*EXACT[:1], SMALLEST], ids=["remainder", "smallest"])
def test_a_resumed_policy_takes_the_same_next_step(case, tmp_path, settings):
    trained, other = case.open(**settings), case.open(**settings)
    case.weights_after(trained, 2)
    write_sharded(trained.sharded_state_dict(), tmp_path)
    other.load_state_dict(read_sharded(other.sharded_state_dict(is_loading=True), tmp_path))
    expected = case.weights_after(trained, 2)
    assert same(case.weights_after(other, 2), expected)


def test_a_checkpoint_of_whole_masters_is_not_read_as_remainders(one_process, untrained_model, tmp_path):
    case = Case(untrained_model, one_process)
    write_sharded(case.open(offload=True).sharded_state_dict(), tmp_path)
    template = case.open(master_weights="remainder").sharded_state_dict(is_loading=True)
    with pytest.raises(ConfigError, match="or how the optimizer keeps its state"):
        read_sharded(template, tmp_path)


def test_the_gradient_norm_is_megatrons_and_clips(case):
    norms = []
    for settings in ({}, SMALLEST):
        policy = case.open(**settings, grad_clip=1e-3)
        policy.forward_backward(case.batch, SRPO)
        norms.append(policy.step(0.0))
        (inner,) = policy.optimizer.chained_optimizers
        gradients = [getattr(p, "decoupled_grad", p.grad) for p in inner.get_parameters()]
        assert torch.cat([g.flatten() for g in gradients]).norm() == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] == norms[0] > 1


def test_a_dropped_optimizer_leaves_weights_to_the_next(case):
    policy = case.open(**SMALLEST)
    weights = case.weights_after(policy, 1)
    policy.drop_optimizer()
    policy.new_optimizer(OPTIMIZER.model_copy(update=SMALLEST))
    assert same({name: tensor.clone() for name, tensor in policy.hf_weights()}, weights)
    assert not same(case.weights_after(policy, 1), weights)

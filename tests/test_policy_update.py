"""One step's update: nothing moves without a gradient or after a mismatch, and later updates know where they began."""

from dataclasses import replace

import pytest
import torch

from srpo_fast.config import LossConfig
from srpo_fast.policy_update import update_policy
from srpo_fast.weight_sync import EngineMismatch, check_mismatch
from tests.policy_case import OPTIMIZER, make_sequences, open_policy, packer

LOOSE = LossConfig(mismatch_stop=10.0)  # the log-probs of the case are made up


@pytest.fixture
def policy(one_process, untrained_model):
    policy = open_policy(untrained_model, one_process)
    policy.new_optimizer(OPTIMIZER)
    return policy


@pytest.fixture
def pack(one_process, untrained_model):
    return packer(untrained_model, one_process, 200)


@pytest.fixture(scope="module")
def sequences(untrained_model):
    return make_sequences(untrained_model)


def weights_of(policy):
    return {name: tensor.clone() for name, tensor in policy.hf_weights()}


def update(policy, sequences, pack, loss=LOOSE, updates=1):
    optimizer = OPTIMIZER.model_copy(update={"updates_per_step": updates})
    return update_policy(policy, sequences, pack, loss=loss, optimizer=optimizer, step=0, steps=4)


def test_a_step_without_advantages_leaves_the_policy_alone(policy, sequences, pack):
    before = weights_of(policy)
    metrics = update(policy, [replace(s, advantage=0.0) for s in sequences], pack)
    assert metrics["train/updates"] == 0
    assert policy.version == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(policy).items())


def test_a_step_without_groups_leaves_the_policy_alone(policy, pack):
    assert update(policy, [], pack)["train/updates"] == 0
    assert policy.version == 0


def test_an_engine_that_disagrees_ends_the_run_before_a_weight_moves(policy, sequences, pack):
    before = weights_of(policy)
    with pytest.raises(EngineMismatch, match=r"step 0: .* more than loss\.mismatch_stop=1e-05"):
        update(policy, sequences, pack, LossConfig(mismatch_stop=1e-5))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(policy).items())


def test_a_mismatch_that_is_no_number_ends_the_run():
    with pytest.raises(EngineMismatch):
        check_mismatch(float("nan"), 1.0, 3)
    check_mismatch(1e-6, 1e-5, 3)


def test_the_metrics_are_means_over_the_tokens_that_count(policy, sequences, pack):
    metrics = update(policy, sequences, pack)
    assert metrics["train/updates"] == 1
    assert metrics["train/loss_tokens"] == sum(sum(s.loss_mask) for s in sequences)
    assert metrics["train/lr"] == OPTIMIZER.lr
    assert metrics["train/clip_fraction"] == 0  # the ratio is 1 in a step's only update
    assert 5 < metrics["train/entropy"] < 6  # log(379) = 5.94 if all tokens were alike
    assert 0 < metrics["rollout/mismatch_abs"] < 1
    assert metrics["train/grad_norm"] > 0


def test_several_updates_a_step_clip_against_the_policy_that_sampled(policy, sequences, pack):
    exact = sampled_by_the_policy(policy, sequences, pack)
    metrics = update(policy, exact, pack, updates=3)
    assert metrics["train/updates"] == policy.version == 3
    # only the first update is still on the policy that sampled, but all compare with its log-probs
    assert metrics["rollout/mismatch_abs"] < 1e-5
    assert metrics["train/loss_tokens"] == sum(sum(s.loss_mask) for s in sequences)


def sampled_by_the_policy(policy, sequences, pack):
    """The sequences with log-probs as a perfect engine would report them."""
    exact = []
    for sequence in sequences:
        sequence = replace(sequence, loss_mask=(True,) * len(sequence.completion_ids))
        (logprobs,) = policy.logprobs(pack([sequence]))
        exact.append(replace(sequence, rollout_logprobs=tuple(logprobs.tolist())))
    return [replace(s, loss_mask=o.loss_mask) for s, o in zip(exact, sequences, strict=True)]

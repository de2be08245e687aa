"""Every objective on the real policy: one gradient however the update is cut, and a reference that stays apart."""

from typing import Any

import pytest
import torch

from srpo_fast.policy import Policy
from tests.objective_case import OBJECTIVES, move_from_reference, updates
from tests.policy_case import largest_relative_error, make_sequences, open_policy, packer


@pytest.fixture(scope="module")
def policy(one_process, untrained_model) -> Policy:
    policy = open_policy(untrained_model, one_process)
    move_from_reference(policy)
    return policy


@pytest.fixture(scope="module")
def by_budget(policy, one_process, untrained_model) -> dict[int, dict[str, Any]]:
    """One micro-batch, some, and about one a sequence."""
    return {budget: updates(policy, untrained_model, one_process, budget) for budget in (4096, 200, 120)}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("budget", [200, 120])
def test_the_gradient_does_not_depend_on_micro_batches(by_budget, budget, objective):
    whole, cut = by_budget[4096][objective], by_budget[budget][objective]
    assert largest_relative_error(cut["gradients"], whole["gradients"]) < 1e-5
    assert cut["metrics"] == pytest.approx(whole["metrics"], rel=1e-4, abs=1e-6)  # sums in fp32


def test_the_case_meets_every_part_of_the_objectives(by_budget):
    metrics = {name: result["metrics"] for name, result in by_budget[4096].items()}
    tokens = metrics["grpo"]["tokens"]
    for name in ("gspo", "cispo"):  # their narrow clips cut some tokens, not all
        assert 0 < metrics[name]["clipped_low"] + metrics[name]["clipped_high"] < tokens
        assert 0 < metrics[name]["importance_masked"] < tokens
    assert metrics["gspo"]["kl"] > 0
    assert metrics["dr_grpo"]["kl"] > 0


def test_reading_the_reference_leaves_every_bit_of_the_policy(policy, one_process, untrained_model):
    batch = packer(untrained_model, one_process, 200)(make_sequences(untrained_model))
    before = [parameter.clone() for parameter in policy.language_model.parameters()]
    own, reference = policy.logprobs(batch), policy.reference_logprobs(batch)
    assert all(torch.equal(b, p) for b, p in zip(before, policy.language_model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(own, policy.logprobs(batch), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(own, reference, strict=True))


def test_the_reference_is_the_policy_as_it_was(one_process, untrained_model):
    policy = open_policy(untrained_model, one_process)
    batch = packer(untrained_model, one_process, 200)(make_sequences(untrained_model))
    before = policy.logprobs(batch)
    move_from_reference(policy)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.reference_logprobs(batch), strict=True))

"""One step's update: nothing moves without a gradient or after a mismatch, and later updates know where they began."""

import json
import math
from dataclasses import replace

import pytest
import torch

from srpo_fast.config import DEFAULT_CONFIG, Config, load_config
from srpo_fast.config.presets import PRESETS
from srpo_fast.policy import NotFinite
from srpo_fast.policy_update import start_updates, update_policy
from srpo_fast.weight_sync import EngineMismatch, check_mismatch
from tests.policy_case import OPTIMIZER, make_sequences, open_policy, packer

LOOSE = "loss.mismatch_stop=10"  # the log-probs of the case are made up


def make_config(*overrides: str, **optimizer: int) -> Config:
    # rollout.max_tokens is no less than the case's longest completion
    config = load_config(DEFAULT_CONFIG, ["steps=4", LOOSE, "loss.normalizer=completion", *overrides])
    return config.model_copy(update={"optimizer": OPTIMIZER.model_copy(update=optimizer)})


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


def same(before, after) -> bool:
    return all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_a_step_without_advantages_leaves_the_policy_alone(policy, sequences, pack):
    before = weights_of(policy)
    metrics = update_policy(policy, [replace(s, advantage=0.0) for s in sequences], pack, make_config(), 0)
    assert metrics["train/updates"] == 0
    assert policy.version == 0
    assert same(before, weights_of(policy))


def test_a_step_without_groups_leaves_the_policy_alone(policy, pack):
    assert update_policy(policy, [], pack, make_config(), 0)["train/updates"] == 0
    assert policy.version == 0


def test_an_engine_that_disagrees_ends_the_run_before_a_weight_moves(policy, sequences, pack):
    before = weights_of(policy)
    with pytest.raises(EngineMismatch, match=r"step 0: .* more than loss\.mismatch_stop=1e-05"):
        update_policy(policy, sequences, pack, make_config("loss.mismatch_stop=1e-5"), 0)
    assert same(before, weights_of(policy))


def test_an_update_whose_gradient_is_not_finite_leaves_what_it_was_made_of(policy, sequences, pack, tmp_path):
    bad, *others = sequences
    broken = [replace(bad, advantage=float("inf")), replace(others[0], advantage=0.0), *others[1:]]
    with pytest.raises(NotFinite, match=r"the gradient's norm is .*/not_finite_step_000003.jsonl has the \d+ comple"):
        update_policy(policy, broken, pack, make_config(f"run.dir={tmp_path}"), 3)
    records = [json.loads(line) for line in (tmp_path / "not_finite_step_000003.jsonl").read_text().splitlines()]
    assert len(records) == len(sequences) - 1  # one had no part in the update
    assert [record["id"] for record in records if not math.isfinite(record["advantage"])] == [bad.prompt.question.id]
    assert records[0]["prompt_ids"] == bad.prompt.token_ids.tolist()
    assert records[0]["completion_ids"] == list(bad.completion_ids)
    assert records[0]["rollout_logprobs"] == list(bad.rollout_logprobs)


def test_a_mismatch_that_is_no_number_ends_the_run():
    with pytest.raises(EngineMismatch):
        check_mismatch(float("nan"), 1.0, 3)
    check_mismatch(1e-6, 1e-5, 3)


def test_tokens_are_counted_once_where_completions_share_their_prompt(policy, sequences, one_process, untrained_model):
    counts = {}
    for share in (False, True):
        pack = packer(untrained_model, one_process, 200, share_prompts=share)
        counts[share] = update_policy(policy, sequences, pack, make_config(), 0)["train/computed_tokens"]
    assert counts[False] == sum(len(s.prompt.token_ids) + len(s.completion_ids) for s in sequences)
    assert counts[True] == counts[False] - sum(len(s.prompt.token_ids) for s in sequences) / 2


def test_the_metrics_are_means_over_the_tokens_that_count(policy, sequences, pack):
    metrics = update_policy(policy, sequences, pack, make_config(), 0)
    assert metrics["train/updates"] == 1
    assert metrics["train/loss_tokens"] == sum(sum(s.loss_mask) for s in sequences)
    assert metrics["train/lr"] == OPTIMIZER.lr
    assert metrics["train/clip_fraction"] == 0  # the ratio is 1 in a step's only update
    assert metrics["train/ratio_max"] == 1
    assert 5 < metrics["train/entropy"] < 6  # log(379) = 5.94 if all tokens were alike
    assert 0 < metrics["rollout/mismatch_abs"] < 1
    assert metrics["rollout/token_mult_prob_error"] > 1 + metrics["rollout/mismatch_abs"]  # exp(x) > 1 + x
    assert metrics["rollout/importance_masked"] == 0
    assert metrics["train/grad_norm"] > 0
    assert "train/kl" not in metrics


def test_tokens_of_older_weights_are_corrected_but_tell_nothing_of_the_engine(policy, sequences, pack):
    exact = sampled_by_the_policy(policy, sequences, pack)
    far = [
        replace(s, rollout_logprobs=(s.rollout_logprobs[0] - 5.0, *s.rollout_logprobs[1:]), older_tokens=1)
        for s in exact
    ]
    metrics = update_policy(policy, far, pack, make_config("loss.mismatch_stop=1e-4", "loss.importance=icepop"), 0)
    assert metrics["rollout/mismatch_abs"] < 1e-5
    assert metrics["rollout/mismatch_kl"] < 1e-5
    assert metrics["rollout/token_mult_prob_error"] == pytest.approx(1.0, abs=1e-4)
    older = sum(s.loss_mask[0] for s in far)
    assert metrics["rollout/importance_masked"] == pytest.approx(older / metrics["train/loss_tokens"])
    with pytest.raises(EngineMismatch):
        update_policy(
            policy, [replace(s, older_tokens=0) for s in far], pack, make_config("loss.mismatch_stop=1e-4"), 1
        )


def test_several_updates_a_step_clip_against_the_policy_that_sampled(policy, sequences, pack):
    exact = sampled_by_the_policy(policy, sequences, pack)
    metrics = update_policy(policy, exact, pack, make_config(updates_per_step=3), 0)
    assert metrics["train/updates"] == policy.version == 3
    # only the first update is still on the policy that sampled, but all compare with its log-probs
    assert metrics["rollout/mismatch_abs"] < 1e-5
    assert metrics["train/loss_tokens"] == sum(sum(s.loss_mask) for s in sequences)
    assert metrics["train/ratio_max"] > 1


@pytest.mark.parametrize("objective", PRESETS)
def test_every_objective_makes_two_updates_and_its_second_is_off_policy(policy, sequences, pack, objective):
    before = weights_of(policy)
    # the embedded config's own values out of the way
    config = make_config(f"objective={objective}", "loss={mismatch_stop: 10}", updates_per_step=2)
    metrics = update_policy(policy, sequences, pack, config, 0)
    assert metrics["train/updates"] == 2
    assert metrics["train/ratio_max"] > 1
    assert metrics["train/grad_norm"] > 0
    assert not same(before, weights_of(policy))
    # a step of 2e-5 moves a sequence's mean log-prob by more than gspo's clip, no token's by 20 %
    assert (metrics["train/clip_fraction"] > 0) == (objective == "gspo")


def test_the_kl_is_zero_in_the_first_update_and_grows_from_there(policy, sequences, pack):
    config = make_config("loss.kl_coef=0.5")
    start_updates(policy, config)
    first = update_policy(policy, sequences, pack, config, 0)
    second = update_policy(policy, sequences, pack, config, 1)
    assert first["train/kl"] == 0
    assert second["train/kl"] > 0


@pytest.mark.parametrize("term", ["loss.kl_coef=0.5", "loss.entropy_coef=0.5"])
def test_with_a_kl_or_entropy_term_sequences_without_advantage_train_too(policy, sequences, pack, term):
    before = weights_of(policy)
    config = make_config(term)
    start_updates(policy, config)
    with torch.no_grad():  # away from the reference, where the KL has a gradient
        for parameter in policy.language_model.parameters():
            parameter.mul_(1.01)
    metrics = update_policy(policy, [replace(s, advantage=0.0) for s in sequences], pack, config, 0)
    assert metrics["train/updates"] == 1
    assert metrics["train/loss_tokens"] == sum(sum(s.loss_mask) for s in sequences)
    assert not same(before, weights_of(policy))


def test_a_reference_is_kept_only_where_the_loss_compares_with_it(policy):
    start_updates(policy, make_config("loss.entropy_coef=0.5"))
    assert policy.sharded_state_dict().get("reference") is None
    start_updates(policy, make_config("loss.kl_coef=0.5"))
    assert policy.sharded_state_dict().get("reference") is not None


def test_the_entropy_bonus_raises_entropy(policy, sequences, pack):
    flat = [replace(s, advantage=0.0) for s in sequences]
    config = make_config("loss.entropy_coef=1.0")
    entropies = [update_policy(policy, flat, pack, config, 0)["train/entropy"] for _ in range(4)]
    assert entropies == sorted(entropies)
    assert entropies[-1] > entropies[0]


def sampled_by_the_policy(policy, sequences, pack):
    """The sequences with log-probs as a perfect engine would report them."""
    exact = []
    for sequence in sequences:
        sequence = replace(sequence, loss_mask=(True,) * len(sequence.completion_ids))
        (logprobs,) = policy.logprobs(pack([sequence]))
        exact.append(replace(sequence, rollout_logprobs=tuple(logprobs.tolist())))
    return [replace(s, loss_mask=o.loss_mask) for s, o in zip(exact, sequences, strict=True)]

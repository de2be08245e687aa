"""The loss of an update: shares that sum to one, and a gradient that does not depend on how the update is cut."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from srpo_fast.batch import TrainingSequence
from srpo_fast.config import LossConfig
from srpo_fast.flops import UpdateFlops
from srpo_fast.loss import (
    Head,
    LossFunction,
    logprobs_only,
    objective_of,
    srpo_loss,
    supervised_loss,
    token_weights,
    trained_rows,
    with_token_weights,
)
from srpo_fast.model_shape import PUBLISHED
from srpo_fast.packing import pack
from srpo_fast.sequences import without_zero_advantage
from srpo_kernels import Objective, VocabShard
from tests.prompt_case import bare_prompt

VOCAB = 32
# the policy's hidden states are its logits
HEAD = Head(weight=torch.eye(VOCAB, dtype=torch.float64), weight_grad=None, vocab=VocabShard())
COOLER = replace(HEAD, vocab=VocabShard(temperature=0.5))


def make_sequence(number: int, length: int, advantage: float) -> TrainingSequence:
    return TrainingSequence(
        prompt=bare_prompt(str(number), torch.randint(VOCAB, (2 + number % 4,))),
        completion_ids=tuple(torch.randint(VOCAB, (length,)).tolist()),
        loss_mask=tuple(i % 5 != 3 for i in range(length)),
        advantage=advantage,
        rollout_logprobs=tuple((-3.5 + torch.randn(length)).tolist()),
        token_weight=0.0,
    )


def make_sequences() -> list[TrainingSequence]:
    """Of many lengths; every third has advantage 0."""
    return [make_sequence(i, 1 + i * 7 % 12, 0.0 if i % 3 == 0 else math.sin(i)) for i in range(14)]


def packed(sequences: list[TrainingSequence], budget: int = 1000, dp: int = 1, dp_rank: int = 0):
    return pack(
        sequences, tokens_per_micro_batch=budget, dp=dp, dp_rank=dp_rank, merge_size=2, image_token_id=-1,
        flops=UpdateFlops(shape=PUBLISHED["3b"], train_vision=False),
    ).micro_batches  # fmt: skip


def table_model() -> Tensor:
    """A policy whose logits [V] depend on the current token alone, in float64."""
    return torch.randn(VOCAB, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


def loss_and_gradient(micro_batches, loss: LossFunction, head: Head = HEAD) -> tuple[float, Tensor]:
    """The update's loss and its gradient in the table, summed over micro-batches."""
    table, total = table_model(), 0.0
    for batch in micro_batches:
        part, _ = loss(batch, table[batch.input_ids], head)
        part.backward()
        total += float(part.detach())
    assert table.grad is not None
    return total, table.grad


@pytest.mark.parametrize("normalizer", ["completion", "token"])
def test_the_weights_of_all_loss_tokens_sum_to_one(normalizer):
    lengths = [3, 1, 20, 7]
    weights = token_weights(lengths, normalizer, 30)
    assert sum(n * w for n, w in zip(lengths, weights, strict=True)) == pytest.approx(1.0, abs=1e-15)


def test_the_normalizers_by_hand():
    assert token_weights([1, 4], "completion", 10) == [0.5, 0.125]  # mean over completions of token means
    assert token_weights([1, 4], "token", 10) == [0.2, 0.2]  # mean over tokens
    assert token_weights([1, 4], "constant", 10) == [0.05, 0.05]  # 1 / (2 completions * 10 tokens)


def test_the_constant_leaves_long_completions_their_weight():
    """Over all tokens the weights sum to the mean share of the limit that was used."""
    weights = token_weights([3, 7], "constant", 10)
    assert 3 * weights[0] + 7 * weights[1] == pytest.approx((0.3 + 0.7) / 2)


def test_every_setting_of_the_loss_reaches_the_objective():
    settings = LossConfig(
        ratio="sequence", clip_low=0.1, clip_high=0.4, dual_clip=2.0, kl="k2", kl_coef=0.3, entropy_coef=0.1,
        importance="icepop", importance_floor=0.6, importance_cap=4.0,
    )  # fmt: skip
    assert objective_of(settings) == Objective(
        ratio="sequence", clip_low=0.1, clip_high=0.4, dual_clip=2.0, kl="k2", kl_coef=0.3, entropy_coef=0.1,
        importance="icepop", importance_floor=0.6, importance_cap=4.0,
    )  # fmt: skip
    assert objective_of(LossConfig(surrogate="cispo")).surrogate == "cispo"


def test_masked_tokens_do_not_count_in_the_weights():
    sequence = replace(make_sequence(0, 4, 1.0), loss_mask=(True, False, False, True))
    (weighted,) = with_token_weights([sequence], "completion")
    assert weighted.token_weight == 0.5


@pytest.mark.parametrize("normalizer", ["completion", "token", "constant"])
def test_loss_and_gradient_do_not_depend_on_micro_batches_or_ranks(normalizer):
    loss = srpo_loss(objective_of(LossConfig(importance_cap=2.0)))
    sequences = with_token_weights(make_sequences(), normalizer, 12)
    whole, gradient = loss_and_gradient(packed(sequences), loss)
    cut, cut_gradient = loss_and_gradient(packed(sequences, budget=18), loss)
    ranks = [row for rank in range(3) for row in packed(sequences, budget=30, dp=3, dp_rank=rank)]
    spread, spread_gradient = loss_and_gradient(ranks, loss)
    assert len(packed(sequences, budget=18)) > 5
    assert gradient.abs().max() > 1e-3
    for value, other in ((cut, cut_gradient), (spread, spread_gradient)):
        assert value == pytest.approx(whole, abs=1e-12)
        assert (other - gradient).abs().max() < 1e-12


def test_sequences_without_advantage_can_be_left_out():
    loss = srpo_loss(objective_of(LossConfig()))
    sequences = with_token_weights(make_sequences(), "completion")
    kept = without_zero_advantage(sequences)
    assert 0 < len(kept) < len(sequences)
    whole, gradient = loss_and_gradient(packed(sequences), loss)
    short, short_gradient = loss_and_gradient(packed(kept), loss)
    assert short == pytest.approx(whole, abs=1e-12)
    assert (short_gradient - gradient).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [(LossConfig(), [1, 2]), (LossConfig(ratio="sequence"), []), (LossConfig(kl_coef=0.1), [1])],
    ids=["tokens", "sequences", "kl"],
)
def test_rows_that_cannot_train_are_dropped_on_the_host(settings, dropped):
    """Row 1 has no weight, row 2 no advantage; an objective of sequences keeps both beside live rows."""
    sequence = replace(make_sequence(1, 4, 1.0), loss_mask=(True,) * 4, token_weight=0.25)
    (batch,) = packed([sequence, replace(make_sequence(2, 2, 1.0), loss_mask=(True, True), token_weight=0.0)])
    weights, advantages = batch.token_weights.clone(), batch.advantages.clone()
    weights[1], advantages[2] = 0.0, 0.0
    batch = replace(batch, token_weights=weights, advantages=advantages, ref_logprobs=batch.rollout_logprobs + 0.1)
    objective = objective_of(settings)
    kept = trained_rows(batch, objective)
    is_live = [row not in dropped for row in range(4)]
    assert kept.loss_rows.tolist() == batch.loss_rows[:4][torch.tensor(is_live)].tolist()
    assert kept.row_offsets.tolist() == [0, sum(is_live), sum(is_live)]
    whole, gradient = loss_and_gradient([batch], srpo_loss(objective))
    short, short_gradient = loss_and_gradient([kept], srpo_loss(objective))
    assert short == pytest.approx(whole, abs=1e-12)
    assert torch.equal(short_gradient, gradient)


def test_a_rank_that_idles_changes_nothing():
    loss = srpo_loss(objective_of(LossConfig()))
    sequences = with_token_weights([make_sequence(1, 5, 1.0)], "token")
    whole, gradient = loss_and_gradient(packed(sequences), loss)
    both, both_gradient = loss_and_gradient([*packed(sequences, dp=2), *packed(sequences, dp=2, dp_rank=1)], loss)
    assert both == whole
    assert torch.equal(both_gradient, gradient)


def test_the_loss_of_one_token_by_hand():
    """On policy the ratio is 1: loss = - w c A, gradient = - w c A d(log p)."""
    sequence = replace(
        make_sequence(1, 1, 2.0), completion_ids=(0,), loss_mask=(True,), rollout_logprobs=(-4.0,), token_weight=0.5
    )
    (batch,) = packed([sequence])
    logits = torch.zeros(len(batch.input_ids), 4, dtype=torch.float64, requires_grad=True)
    head = replace(HEAD, weight=torch.eye(4, dtype=torch.float64))
    loss, metrics = srpo_loss(objective_of(LossConfig(importance="none")))(batch, logits, head)
    loss.backward()
    assert loss.item() == pytest.approx(-1.0)
    assert logits.grad is not None
    assert logits.grad[int(batch.loss_rows)].tolist() == pytest.approx([-0.75, 0.25, 0.25, 0.25])
    assert metrics["tokens"] == 1
    assert metrics["entropy"].item() == pytest.approx(math.log(4))
    assert metrics["mismatch_abs"].item() == pytest.approx(4.0 - math.log(4))


@pytest.mark.parametrize(("cap", "correction"), [(100.0, math.e**2), (2.0, 2.0)])
def test_a_token_the_engine_thought_unlikely_is_corrected_up_to_the_cap(cap, correction):
    sequence = replace(
        make_sequence(1, 1, 1.0), loss_mask=(True,), rollout_logprobs=(-math.log(VOCAB) - 2,), token_weight=1.0
    )
    (batch,) = packed([sequence])
    loss_of = srpo_loss(objective_of(LossConfig(importance_cap=cap)))
    loss, _ = loss_of(batch, torch.zeros(len(batch.input_ids), VOCAB, dtype=torch.float64), HEAD)
    assert loss.item() == pytest.approx(-correction, rel=1e-6)


def test_a_later_update_is_clipped_against_the_log_probs_its_step_began_with():
    sequence = replace(make_sequence(1, 1, 1.0), loss_mask=(True,), rollout_logprobs=(-9.0,), token_weight=1.0)
    (batch,) = packed([sequence])
    logits = torch.zeros(len(batch.input_ids), VOCAB, dtype=torch.float64, requires_grad=True)
    moved = replace(batch, old_logprobs=torch.tensor([-math.log(VOCAB) - math.log(1.5)]))  # ratio 1.5
    loss, metrics = srpo_loss(objective_of(LossConfig(importance_cap=1.0, clip_high=0.2)))(moved, logits, HEAD)
    loss.backward()
    assert loss.item() == pytest.approx(-1.2)
    assert metrics["clipped_high"] == 1
    assert logits.grad is not None
    assert not logits.grad.any()


def test_banned_tokens_are_no_part_of_the_distribution():
    banned = replace(HEAD, vocab=VocabShard(banned_columns=torch.tensor([3, 17])))
    sequences = with_token_weights(make_sequences(), "token")
    clean = [replace(s, completion_ids=tuple(4 if t in (3, 17) else t for t in s.completion_ids)) for s in sequences]
    _, gradient = loss_and_gradient(packed(clean), supervised_loss, banned)
    assert gradient[:, [3, 17]].abs().max() < 1e-30  # e**-100 of the others
    assert gradient.abs().max() > 1e-3


def test_the_policy_is_compared_at_the_sampling_temperature():
    (batch,) = packed(with_token_weights(make_sequences(), "token"))
    logits = table_model()[batch.input_ids]
    _, metrics = logprobs_only(batch, logits, COOLER)
    expected = F.log_softmax(logits[batch.loss_rows] * 2, dim=-1).gather(1, batch.labels[:, None])[:, 0]
    assert (metrics["logprobs"] - expected).abs().max() < 1e-12


def test_the_supervised_loss_is_the_mean_cross_entropy_over_all_tokens():
    sequences = with_token_weights(make_sequences(), "token")
    value, gradient = loss_and_gradient(packed(sequences, budget=20), supervised_loss)
    table = table_model()
    (batch,) = packed(sequences)
    expected = F.cross_entropy(table[batch.input_ids[batch.loss_rows]], batch.labels)
    expected.backward()
    assert table.grad is not None
    # the weights are fp32
    assert value == pytest.approx(expected.item(), rel=1e-6)
    assert (gradient - table.grad).abs().max() < 1e-7


def test_the_supervised_loss_does_not_know_the_sampling_temperature():
    batches = packed(with_token_weights(make_sequences(), "token"))
    assert loss_and_gradient(batches, supervised_loss, COOLER)[0] == pytest.approx(
        loss_and_gradient(batches, supervised_loss)[0], abs=1e-7
    )


def test_the_probability_factor_counts_each_trained_token_once_either_way():
    (batch,) = packed(with_token_weights(make_sequences(), "completion"))
    probabilities = F.log_softmax(table_model().detach()[batch.input_ids[batch.loss_rows]], dim=-1)
    own = probabilities.gather(1, batch.labels[:, None]).squeeze(1)
    hidden = table_model().detach()[batch.input_ids]
    _, metrics = srpo_loss(Objective())(batch, hidden, HEAD)
    factors = torch.maximum((own - batch.rollout_logprobs).exp(), (batch.rollout_logprobs - own).exp())
    trained = batch.advantages != 0
    assert 0 < trained.sum() < len(trained)
    assert metrics["token_mult_prob_error"].item() == pytest.approx(factors[trained].sum().item())
    assert metrics["mismatch_max"].item() == pytest.approx(factors[trained].max().log().item())
    assert metrics["tokens"] == trained.sum()

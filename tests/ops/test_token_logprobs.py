import json
import math

import pytest
import torch
import torch.nn.functional as F

from srpo_kernels import VocabShard
from srpo_kernels.reference import token_logprobs_and_entropy
from tests.launch import run_on_ranks

SHAPES = [(1, 7), (17, 781), (3, 5000)]  # one row; ragged; a wide row
BANNED = torch.tensor([5, 0])


def expected_distribution(logits, temperature, banned_ids):
    """[R, V] fp64 log-probs, written without any of the operation's code."""
    scores = logits.double().clone()
    if banned_ids is not None:
        scores[:, banned_ids] -= 100
    return F.log_softmax(scores / temperature, dim=-1)


@pytest.mark.parametrize(("R", "V"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=["fp32", "bf16", "fp64"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("banned_ids", [None, BANNED], ids=["free", "banned"])
def test_matches_log_softmax_in_float64(R, V, dtype, temperature, banned_ids):
    logits = (3 * torch.randn(R, V)).to(dtype).requires_grad_()
    labels = torch.randint(V, (R,))
    dlogprobs, dentropy = torch.randn(R), torch.randn(R)
    exact_logits = logits.detach().double().requires_grad_()
    distribution = expected_distribution(exact_logits, temperature, banned_ids)
    expected = distribution.gather(1, labels[:, None]).squeeze(1)
    expected_entropy = -(distribution.exp() * distribution).sum(-1)
    torch.autograd.backward([expected, expected_entropy], [dlogprobs.double(), dentropy.double()])

    vocab = VocabShard(temperature=temperature, banned_columns=banned_ids)
    logprobs, entropy = token_logprobs_and_entropy(logits, labels, vocab=vocab)
    torch.autograd.backward([logprobs, entropy], [dlogprobs.to(logprobs.dtype), dentropy.to(logprobs.dtype)])

    assert logprobs.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # fp32 rounds scores of size 20 / 0.7 to 2e-6; a bf16 gradient has 8 bits
    torch.testing.assert_close(logprobs.double(), expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        logits.grad.double(), exact_logits.grad, atol=1e-6, rtol=8e-3 if dtype == torch.bfloat16 else 1e-5
    )
    torch.testing.assert_close(entropy.double(), expected_entropy.detach(), atol=1e-5, rtol=1e-5)


def test_hand_computed_three_tokens():
    logits = torch.tensor([[0.0, math.log(2.0), math.log(5.0)]])  # probabilities 1/8, 2/8, 5/8
    logprobs, entropy = token_logprobs_and_entropy(logits, torch.tensor([1]), vocab=VocabShard())
    assert logprobs.item() == pytest.approx(math.log(2 / 8))
    assert entropy.item() == pytest.approx(
        -(1 / 8 * math.log(1 / 8) + 2 / 8 * math.log(2 / 8) + 5 / 8 * math.log(5 / 8))
    )


def test_ban_comes_before_the_temperature_and_only_shifts_the_logit():
    logits = torch.tensor([[150.0, 60.0]])
    vocab = VocabShard(temperature=2.0, banned_columns=torch.tensor([0]))
    banned, _ = token_logprobs_and_entropy(logits, torch.tensor([0]), vocab=vocab)
    assert banned.item() == pytest.approx(-math.log1p(math.exp((60 - 50) / 2)))


def test_logits_are_left_alone():
    logits = torch.randn(4, 9)
    before = logits.clone()
    token_logprobs_and_entropy(logits, torch.arange(4), vocab=VocabShard(temperature=0.5, banned_columns=BANNED))
    assert torch.equal(logits, before)


def test_huge_logits_and_masked_columns_stay_finite():
    logits = torch.tensor([[3e4, -3e4, -math.inf], [-3e4, -3e4, -math.inf]], requires_grad=True)
    logprobs, entropy = token_logprobs_and_entropy(logits, torch.tensor([0, 1]), vocab=VocabShard())
    (logprobs + entropy).sum().backward()
    assert logprobs.tolist() == pytest.approx([0.0, -math.log(2)], abs=2e-3)  # 3e4 in fp32 has steps of 2e-3
    assert entropy.tolist() == pytest.approx([0.0, math.log(2)], abs=2e-3)
    assert logits.grad.isfinite().all()


def test_gradcheck():
    logits = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 5, 2])
    vocab = VocabShard(temperature=0.8, banned_columns=torch.tensor([1]))
    assert torch.autograd.gradcheck(lambda x: token_logprobs_and_entropy(x, labels, vocab=vocab), logits)


def test_entropy_is_highest_and_flat_where_all_tokens_are_alike():
    logits = torch.zeros(1, 4, requires_grad=True)
    _, entropy = token_logprobs_and_entropy(logits, torch.tensor([0]), vocab=VocabShard())
    entropy.sum().backward()
    assert entropy.item() == pytest.approx(math.log(4))
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-7


def test_rejects_arguments_that_cannot_be_meant():
    with pytest.raises(ValueError, match="labels"):
        token_logprobs_and_entropy(torch.randn(3, 6), torch.zeros(4, dtype=torch.int64), vocab=VocabShard())
    with pytest.raises(ValueError, match="a temperature above 0, got 0"):
        VocabShard(temperature=0)


def test_two_ranks_agree_with_one():
    result = run_on_ranks(2, "tests/ops/vocab_parallel_ranks.py")
    assert result.returncode == 0, result.stderr[-3000:]
    errors = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert sorted(e["rank"] for e in errors) == [0, 1]
    for error in errors:
        assert error["logprobs"] < 1e-12, error
        assert error["entropy"] < 1e-12, error
        assert error["gradient"] < 1e-12, error
        assert error["spread"] == 0, error

"""The head in chunks against the specification in float64: every objective, on the host's path and on a GPU's."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srpo_kernels import Objective, cross_entropy_head, head_logprobs, head_products, reference, srpo_head
from tests.ops.head_case import (
    OBJECTIVES,
    HeadCase,
    assert_agree,
    make_case,
    on_device_path,
    results,
    srpo_results,
)

# fp32 against fp64: the log-prob of a banned label is near -140, where fp32 has steps of 1.5e-5
FP32 = {"rtol": 5e-5, "atol": 2e-5}
BF16 = {"rtol": 5e-3, "atol": 1e-4}  # gradients are rounded once to 8 bits


@pytest.fixture
def chunks_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_products, "CPU_ROWS", 4)
    monkeypatch.setattr(head_products, "CPU_BYTES", 0)


@pytest.fixture(params=["host", "device"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "device":
        on_device_path(monkeypatch)


def assert_as_twin(case: HeadCase, objective: Objective, rtol: float, atol: float) -> None:
    assert_agree(
        srpo_results(srpo_head, case, objective), srpo_results(reference.srpo_head, case.exact(), objective), rtol, atol
    )


@pytest.mark.usefixtures("path", "chunks_of_four")
@pytest.mark.parametrize("is_on_policy", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_in_chunks(name, is_on_policy):
    banned = torch.tensor([3, 50])
    assert_as_twin(
        make_case(is_on_policy=is_on_policy, temperature=0.7, banned_columns=banned), OBJECTIVES[name], **FP32
    )


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_in_one_chunk_of_bf16(name):
    assert_as_twin(make_case(dtype=torch.bfloat16), OBJECTIVES[name], **BF16)


def test_the_case_meets_every_part_of_the_objectives():
    found = {name: srpo_results(srpo_head, make_case(), objective) for name, objective in OBJECTIVES.items()}
    kept = found["grpo"]["metric tokens"]
    assert kept < len(make_case().labels)
    for name in ("grpo", "dual_clip_k3", "gspo", "gspo_entropy_mask", "grpo_mask"):
        assert 0 < found[name]["metric clipped_low"] < kept, name
        assert 0 < found[name]["metric clipped_high"] < kept, name
    for name in ("cispo_icepop", "gspo_entropy_mask", "grpo_mask", "cispo_mask_kl"):
        assert 0 < found[name]["metric importance_masked"] < kept, name


@pytest.mark.usefixtures("chunks_of_four")
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    columns=st.integers(2, 40),
    name=st.sampled_from(sorted(OBJECTIVES)),
    is_on_policy=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape(lengths, columns, name, is_on_policy, seed):
    case = make_case(lengths, V=columns, D=5, dtype=torch.float64, is_on_policy=is_on_policy, seed=seed)
    assert_as_twin(case.exact(), OBJECTIVES[name], rtol=1e-10, atol=1e-11)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("lengths", [(0,), (1,), (0, 1, 0)], ids=["none", "one", "one of three"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_row_and_one_row(lengths, name):
    assert_as_twin(make_case(lengths), OBJECTIVES[name], **FP32)


@pytest.mark.usefixtures("path", "chunks_of_four")
def test_a_state_with_several_labels_has_the_gradient_of_all():
    """As where completions share their prompt, whose last row predicts the first token of each."""
    case = make_case((3, 4, 5))
    loss_rows = case.loss_rows.clone()
    loss_rows[[3, 7]] = int(loss_rows[0])
    assert_as_twin(replace(case, loss_rows=loss_rows), OBJECTIVES["grpo"], **FP32)


@pytest.mark.usefixtures("path", "chunks_of_four")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_without_weight_have_no_gradient_and_count_nowhere(name):
    case = make_case()
    case = replace(case, rows=replace(case.rows, token_weights=torch.zeros(len(case.labels))))
    found = srpo_results(srpo_head, case, OBJECTIVES[name])
    assert not any(value.any() for value in found.values())
    assert_as_twin(case, OBJECTIVES[name], **FP32)


@pytest.mark.usefixtures("path", "chunks_of_four")
@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if objective.ratio == "token"])
def test_whatever_rows_without_weight_hold_they_change_nothing(name):
    case = make_case()
    padding = case.rows.token_weights == 0
    spoilt = with_nan(case, padding)
    if OBJECTIVES[name].importance == "sequence_mask":  # whole sequences are weighed with the padding in them
        rows = replace(spoilt.rows, old_logprobs=case.rows.old_logprobs, rollout_logprobs=case.rows.rollout_logprobs)
        spoilt = replace(case, rows=rows)
    expected = srpo_results(srpo_head, case, OBJECTIVES[name])
    for head in (srpo_head, reference.srpo_head):
        assert_agree(srpo_results(head, spoilt, OBJECTIVES[name]), expected, **FP32)


def with_nan(case: HeadCase, padding: torch.Tensor) -> HeadCase:
    """In states and every field of these rows [R] bool but their weights."""
    hidden = case.hidden.clone()
    hidden[case.loss_rows[padding]] = torch.nan
    fields = ("rollout_logprobs", "old_logprobs", "ref_logprobs", "advantages")
    rows = {name: getattr(case.rows, name).masked_fill(padding, torch.nan) for name in fields}
    return replace(case, hidden=hidden, rows=replace(case.rows, **rows))


@pytest.mark.usefixtures("path")
def test_a_ratio_at_the_edge_of_the_clip_has_the_specified_gradient():
    """Logits of 0 have log-probs without rounding, and both versions then the same ratio in fp32."""
    case = make_case((6,))
    old = torch.full((6,), -torch.tensor(53.0).log()) - torch.tensor([0.3, 0.3, -0.2, -0.2, 0.5, 0.0])
    advantages = torch.tensor([1.0, -1, 1, -1, -2, 1])
    rows = replace(case.rows, old_logprobs=old, advantages=advantages, token_weights=torch.ones(6))
    case = replace(case, hidden=torch.zeros_like(case.hidden), rows=rows)
    now, _ = reference.head_logprobs(case.hidden, case.weight, case.loss_rows, case.labels, vocab=case.vocab)
    ratio = (now - old).exp()
    edges = Objective(
        clip_low=1 - float(ratio[2]), clip_high=float(ratio[0]) - 1, dual_clip=float(ratio[4])
    )  # fmt: skip
    found = srpo_results(srpo_head, case, edges)
    assert found["metric clipped_low"] == found["metric clipped_high"] == 0
    assert_agree(found, srpo_results(reference.srpo_head, case, edges), **FP32)


@pytest.mark.parametrize("shift", [-200.0, 200.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_logits_far_from_zero(shift, dtype):
    case = make_case(dtype=dtype)
    case.hidden[:, -1], case.weight[:, -1] = 1, shift
    objective = OBJECTIVES["k2_entropy"]
    found = srpo_results(srpo_head, case, objective)
    expected = srpo_results(reference.srpo_head, case.exact(), objective)
    for result in (found, expected):
        result["dhidden"][:, -1] /= shift  # a sum of gradients that cancel, times the shift
    # near 200, fp32 has steps of 1.5e-5
    assert_agree(found, expected, **(BF16 if dtype == torch.bfloat16 else {"rtol": 2e-4, "atol": 1e-4}))


def test_hidden_states_may_be_strided():
    case = make_case()
    wide = torch.randn(len(case.hidden), 2 * case.hidden.shape[1])
    wide[:, ::2] = case.hidden
    assert_as_twin(replace(case, hidden=wide[:, ::2]), OBJECTIVES["grpo"], **FP32)
    assert_as_twin(replace(case, hidden=case.hidden.T.contiguous().T), OBJECTIVES["grpo"], **FP32)


@pytest.mark.usefixtures("path", "chunks_of_four")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_cross_entropy(dtype):
    case = make_case(dtype=dtype, temperature=0.8)
    case = with_nan(case, case.rows.token_weights == 0)
    found, expected = (
        results(
            lambda hidden, weight, c=c, head=head: head(
                hidden, weight, c.loss_rows, c.labels, c.rows.token_weights, vocab=c.vocab
            ),
            c,
        )
        for head, c in ((cross_entropy_head, case), (reference.cross_entropy_head, case.exact()))
    )
    assert_agree(found, expected, **(FP32 if dtype == torch.float32 else BF16))


@pytest.mark.usefixtures("chunks_of_four")
def test_log_probs_of_peaked_distributions_from_bf16_are_exact():
    """Rounding a logit near 30 to bf16 would move it by 0.06."""
    case = make_case(dtype=torch.bfloat16, D=64, V=301, scale=12.0)
    inputs = (case.loss_rows, case.labels)
    logprobs, entropy = head_logprobs(case.hidden, case.weight, *inputs, vocab=case.vocab)
    exact = case.exact()
    expected, expected_entropy = reference.head_logprobs(exact.hidden, exact.weight, *inputs, vocab=case.vocab)
    assert (exact.hidden @ exact.weight.T).abs().max() > 30
    assert expected_entropy.min() < 0.01
    assert (logprobs.double() - expected).abs().max() < 1e-5
    assert (entropy.double() - expected_entropy).abs().max() < 1e-5


@pytest.mark.usefixtures("path", "chunks_of_four")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_weights_gradient_is_added_where_it_is_summed(dtype):
    """In fp32, whatever the weight's dtype, on top of what is there."""
    case = make_case(dtype=dtype)
    before = torch.randn(case.weight.shape)
    weight_grad = before.clone()
    weight, hidden = case.weight.clone().requires_grad_(), case.hidden.clone().requires_grad_()
    inputs = {"objective": OBJECTIVES["grpo"], "vocab": case.vocab}
    srpo_head(hidden, weight, case.loss_rows, case.labels, case.rows, weight_grad=weight_grad, **inputs).loss.backward()
    expected = srpo_results(reference.srpo_head, case.exact(), OBJECTIVES["grpo"])
    assert weight.grad is None
    torch.testing.assert_close((weight_grad - before).double(), expected["dweight"], rtol=2e-5, atol=2e-6)
    torch.testing.assert_close(
        hidden.grad.double(), expected["dhidden"], **(FP32 if dtype == torch.float32 else BF16)
    )  # fmt: skip


def test_a_loss_whose_weight_gradient_is_summed_already_cannot_be_scaled():
    case = make_case()
    output = srpo_head(
        case.hidden.requires_grad_(), case.weight, case.loss_rows, case.labels, case.rows,
        objective=OBJECTIVES["grpo"], vocab=case.vocab, weight_grad=torch.zeros_like(case.weight),
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="once, unscaled"):
        (2 * output.loss).backward()


def test_a_loss_scales_its_gradients():
    case = make_case()
    hidden, weight = case.hidden.requires_grad_(), case.weight.requires_grad_()
    inputs = {"objective": OBJECTIVES["grpo"], "vocab": case.vocab}
    once = srpo_results(srpo_head, case, OBJECTIVES["grpo"])
    (3 * srpo_head(hidden, weight, case.loss_rows, case.labels, case.rows, **inputs).loss).backward()
    torch.testing.assert_close(hidden.grad, 3 * once["dhidden"])
    torch.testing.assert_close(weight.grad, 3 * once["dweight"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"advantages": torch.zeros(9)}, r"expected advantages \[8\], one a loss row, got \(9,\)"),
        ({"token_weights": torch.zeros(7)}, r"expected token_weights \[8\]"),
        ({"row_offsets": torch.tensor([0, 4, 20])}, "expected row_offsets from 0 up to 8"),
        ({"row_offsets": torch.tensor([0, 4])}, "expected row_offsets from 0 up to 8"),
        ({"row_offsets": torch.tensor([0, 9, 8])}, "expected row_offsets from 0 up to 8"),
    ],
)
def test_rows_of_another_number_are_refused(change, says):
    case = make_case((3, 5))
    with pytest.raises(ValueError, match=says):
        srpo_results(srpo_head, replace(case, rows=replace(case.rows, **change)), Objective(ratio="sequence"))


@pytest.mark.parametrize("wrong", [{"ratio": "seq"}, {"importance": "tis"}, {"kl_coef": -0.1}, {"entropy_coef": -1.0}])
def test_an_objective_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ValueError, match=f"expected {next(iter(wrong))} to be"):
        Objective(**wrong)

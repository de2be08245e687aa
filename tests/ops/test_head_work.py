"""What the head does, counted: products and their rows, memory, and nothing that would wait for a GPU."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from srpo_kernels import Objective, cross_entropy_head, head_logprobs, head_products, srpo_head
from srpo_kernels.head_products import chunk_rows
from tests.ops.head_case import OBJECTIVES, HeadCase, make_case, on_device_path
from tests.ops.work_counter import WorkCounter

D, V, CHUNK = 24, 53, 12
# of the case's 41 rows 32 have a weight and an advantage; 40 are in a sequence with such a row


@pytest.fixture(autouse=True)
def _chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_products, "CPU_ROWS", CHUNK)
    monkeypatch.setattr(head_products, "CPU_BYTES", 0)


def work_of(case: HeadCase, objective: Objective, *, requires_grad: bool = True, **options: Any) -> WorkCounter:
    hidden = case.hidden.clone().requires_grad_(requires_grad)
    weight = case.weight.clone().requires_grad_(requires_grad)
    with WorkCounter() as work:
        output = srpo_head(
            hidden, weight, case.loss_rows, case.labels, case.rows, objective=objective, vocab=case.vocab, **options
        )
        if output.loss.requires_grad:
            output.loss.backward()
    return work


def three(rows: int, with_slope: int) -> list[tuple[int, int, int]]:
    """The products of a chunk: forward for its rows, backward for those whose slope is not 0."""
    return [(rows, D, V), (with_slope, V, D), (V, with_slope, D)]


def test_rows_without_a_gradient_never_reach_the_output_layer():
    work = work_of(make_case(is_on_policy=True), Objective())
    assert work.products == three(12, 12) + three(12, 12) + three(8, 8)


def test_rows_whose_slope_is_zero_have_no_backward_products():
    case = make_case((20,))
    rows = replace(case.rows, token_weights=torch.ones(20), advantages=torch.ones(20))
    old = torch.full((20,), -99.0)  # a ratio of e^20, clipped
    old[[2, 5, 17]] = 0.0  # a ratio below 1
    work = work_of(replace(case, rows=replace(rows, old_logprobs=old)), Objective())
    assert work.products == three(12, 2) + three(8, 1)
    work = work_of(replace(case, rows=replace(rows, old_logprobs=torch.full((20,), -99.0))), Objective())
    assert work.products == [(12, D, V), (8, D, V)]


def test_slopes_that_need_whole_sequences_cost_a_fourth_product_where_these_are_cut():
    case = make_case(is_on_policy=True)
    first = [(12, D, V)] * 3 + [(4, D, V)]
    assert work_of(case, OBJECTIVES["gspo"]).products == first + three(12, 12) * 3 + three(4, 4)
    short = make_case((3, 8), is_on_policy=True)
    assert [m for m, _, n in work_of(short, OBJECTIVES["gspo"]).products if n == V] == [11]


@pytest.mark.parametrize(("name", "last"), [("grpo", [8]), ("gspo", [12, 4])])
def test_without_gradients_there_is_one_product_a_chunk(name, last):
    case = make_case()
    with torch.no_grad():
        products = work_of(case, OBJECTIVES[name]).products
    assert products == work_of(case, OBJECTIVES[name], requires_grad=False).products
    assert products == [(rows, D, V) for rows in (12, 12, *last)]
    with WorkCounter() as work:
        head_logprobs(case.hidden, case.weight, case.loss_rows, case.labels, vocab=case.vocab)
    assert work.products == [(rows, D, V) for rows in (12, 12, 12, 5)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_a_gpu_nothing_waits_for_the_device(name, monkeypatch):
    on_device_path(monkeypatch)
    for is_on_policy in (True, False):
        work = work_of(make_case(is_on_policy=is_on_policy), OBJECTIVES[name])
        assert work.host_syncs == []
        forward = [rows for rows, _, columns in work.products if columns == V]
        assert sum(forward) == 41 * (2 if name.startswith("gspo") or (is_on_policy and "mask" in name) else 1)


def test_cross_entropy_and_log_probs_do_not_wait_either(monkeypatch):
    on_device_path(monkeypatch)
    case = make_case()
    hidden = case.hidden.requires_grad_()
    with WorkCounter() as work:
        loss = cross_entropy_head(
            hidden, case.weight, case.loss_rows, case.labels, case.rows.token_weights, vocab=case.vocab,
            weight_grad=torch.zeros(V, D),
        ).loss  # fmt: skip
        head_logprobs(hidden, case.weight, case.loss_rows, case.labels, vocab=case.vocab)
        loss.backward()
    # the host reads the assertion that the gradient is 1; a GPU asserts by itself
    assert set(work.host_syncs) <= {"_local_scalar_dense", "is_nonzero"}
    assert work.products == three(12, 12) * 3 + three(5, 5) + [(rows, D, V) for rows in (12, 12, 12, 5)]


@pytest.mark.parametrize("name", ["grpo", "gspo"])
def test_no_tensor_is_of_the_size_of_all_logits(name):
    columns = 4096
    case = make_case((64, 64), V=columns, is_on_policy=True)
    assert work_of(case, OBJECTIVES[name]).largest == max(CHUNK, D) * columns


def test_the_counter_sees_what_would_wait():
    values = torch.arange(4.0)
    with WorkCounter() as work:
        values[values > 1]
        values.nonzero()
        values.sum().item()
    assert work.host_syncs == ["index", "nonzero", "_local_scalar_dense"]


def test_a_chunk_is_as_large_as_its_memory_allows(monkeypatch):
    monkeypatch.undo()
    assert chunk_rows(152_064, "cuda") == 4096
    assert chunk_rows(19_008, "cuda") == 512 * 2**20 // (4 * 19_008)
    assert chunk_rows(32_768, "cpu") == head_products.CPU_BYTES // (4 * 32_768)
    assert chunk_rows(152_064, "cpu") == 64


def test_a_gpus_products_are_calls_that_torch_accepts():
    """bf16 into fp32, in place, rows twice as far apart as they are long; what they compute takes a GPU to see."""
    hidden, weight, wide = (
        torch.zeros(rows, columns, dtype=torch.bfloat16, device="meta")
        for rows, columns in ((8, D), (V, D), (8, 2 * V))
    )
    logits, total = torch.zeros(8, V, device="meta"), torch.zeros(V, D, device="meta")
    with WorkCounter() as work:
        head_products.logits_into(logits, hidden, weight)
        head_products.add_product(total, wide[:, :V], hidden)
    assert work.products == [(8, D, V), (V, 8, D)]

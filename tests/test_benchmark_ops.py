"""What the benchmarks' figures rest on: that wrong results stop them, and that memory is reckoned as said."""

from dataclasses import replace

import pytest
import torch

from benchmarks.memory import extra_bytes
from benchmarks.ops import measure, truth
from benchmarks.ops.measure import Protocol, measure_head
from benchmarks.ops.truth import true_step, wrong_by
from benchmarks.ops.variants import head_variants
from benchmarks.ops.workloads import cpu_bar, make_case, tiny

MIB = 2**20


def test_extra_memory_is_the_high_water_mark_less_what_is_returned():
    def run():
        kept = torch.ones(MIB // 4)
        first = torch.ones(2 * MIB // 4)
        del first
        second = torch.ones(3 * MIB // 4)
        return kept + second[: len(kept)]

    # at the end: kept, second and the sum; the sum goes to the caller
    assert extra_bytes(run, "cpu") == 4 * MIB


def test_every_variant_that_runs_here_is_right():
    case = make_case(tiny(), "cpu")
    exact = true_step(case)
    wrong = {
        variant.name: wrong_by(variant.run(), exact, torch.float32)
        for variant in head_variants(case)
        if variant.run is not None and variant.name != "torch_compile"  # takes longer than all of these tests
    }
    assert set(wrong.values()) == {None}, wrong
    assert {"ours", "torch", "torch_full_logits"} <= wrong.keys()


def test_the_truth_does_not_depend_on_how_many_rows_are_taken_at_once(monkeypatch):
    case = make_case(tiny(), "cpu")
    at_once = true_step(case)
    monkeypatch.setattr(truth, "ROWS_AT_ONCE", 5)
    for part in ("loss", "dhidden", "dweight"):
        torch.testing.assert_close(getattr(true_step(case), part), getattr(at_once, part), rtol=1e-12, atol=1e-14)


def test_another_librarys_wrong_result_is_not_timed_and_ours_is_an_error(monkeypatch):
    monkeypatch.setattr(measure, "wrong_by", lambda step, truth, dtype: "loss is off")
    with pytest.raises(AssertionError, match="ours on tiny: loss is off"):
        measure_head(tiny(), Protocol(rounds=3), ("ours", "torch"))
    found = measure_head(tiny(), Protocol(rounds=3), ("torch",))
    assert found.rows == []
    assert [(v.variant, v.reason) for v in found.skipped] == [("torch", "loss is off")]


@pytest.mark.parametrize("part", ["loss", "dhidden", "dweight"])
def test_a_result_that_is_slightly_wrong_is_refused(part):
    case = make_case(tiny(), "cpu")
    exact = true_step(case)
    off = replace(exact, **{part: getattr(exact, part) * (1 + 5e-5)})
    assert wrong_by(off, exact, torch.float32).startswith(f"{part} is off by 5.0e-05")
    assert wrong_by(replace(exact, **{part: getattr(exact, part) * torch.nan}), exact, torch.float32) is not None


def test_a_measured_row_has_all_that_the_document_promises():
    measured = measure_head(tiny(), Protocol(rounds=3), ("ours", "torch", "liger_triton"))
    assert [row.variant for row in measured.rows] == ["ours", "torch"]
    assert [(v.variant, v.reason) for v in measured.skipped] in (
        [("liger_triton", "its Triton kernels need a GPU")], [("liger_triton", "liger-kernel is not installed")],
    )  # fmt: skip
    (rate,) = measured.ceilings.values()
    for row in measured.rows:
        assert 0 < row.ms_p20 <= row.ms_p50 <= row.ms_p80
        flops = 3 * 2 * make_case(tiny(), "cpu").kept * 16 * 256
        assert row.efficiency == pytest.approx(flops / rate / (row.ms_p50 / 1e3))


def test_the_cpu_workload_is_the_one_that_is_promised():
    workload = cpu_bar()
    assert (workload.tokens, workload.hidden_size, workload.vocabulary) == (2_048, 512, 32_768)
    sequences = workload.tokens // workload.sequence_length
    assert round(sequences * workload.zero_share) == 11  # of 32
    assert workload.response_share == 0.5

"""What the Triton kernels compile to for sm_90a, without a GPU: nothing may get worse unnoticed.

After a change that is meant to alter this: `python -m benchmarks.kernel_resources --write`, and look at the difference.
"""

import json
from dataclasses import replace

import pytest
import triton

from benchmarks.kernel_launches import LAUNCHES
from benchmarks.kernel_resources import GOLDEN, SHARED_LIMIT, Compiled, compiled, worsened
from srpo_kernels import triton_rows
from srpo_kernels.triton_rows import launches
from srpo_kernels.triton_rows.launches import RowLaunch

SECONDS = 30  # for one kernel; the slowest takes 2, a configuration that spills without end 47


@pytest.fixture(scope="module")
def golden() -> dict:
    document = json.loads(GOLDEN.read_text())
    assert document["triton"] == triton.__version__, "another compiler: write the golden figures anew"
    return document["launches"]


@pytest.fixture(scope="module")
def results() -> dict[str, list[Compiled]]:
    return {name: compiled(launch) for name, launch in LAUNCHES.items()}


def test_no_kernel_needs_more_than_it_did(results, golden):
    assert worsened(results, golden) == []


def test_every_kernel_runs_without_spills_and_fits_a_multiprocessor(results):
    for name, kernels in results.items():
        for c in kernels:
            what = f"{name}, {c.kernel}: {c.resources}"
            assert (c.resources.stack, c.resources.local) == (0, 0), what
            assert c.resources.shared <= SHARED_LIMIT, what
            assert c.seconds < SECONDS, what


def test_the_product_runs_on_hoppers_tensor_cores_and_copy_engine(results):
    for name in ("linear_statistics bf16", "linear_statistics bf16 banned"):
        product = results[name][0].resources
        assert product.hgmma > 0, name
        assert product.tma_loads > 0, name
        assert product.hmma == 0, name


def test_the_gradient_waits_for_all_reads_before_it_writes(results):
    assert results["row_gradient fp32 to bf16"][0].resources.barriers > 0  # it has no other reason for one


def test_a_kernel_that_spills_is_found_by_name(monkeypatch, golden):
    name = "row_gradient fp32 to bf16 entropy"
    hopper = launches._LAUNCHES[9, 0]
    monkeypatch.setitem(launches._LAUNCHES, (9, 0), replace(hopper, row_gradient=RowLaunch(block=65_536, warps=16)))
    found = worsened({name: compiled(LAUNCHES[name])}, golden)
    assert any(line.startswith(f"{name}, _row_gradient: stack was 0, is ") for line in found), found


def test_every_operation_is_compiled():
    assert {name.split()[0] for name in LAUNCHES} == set(triton_rows.__all__)

"""The weight sync's copies: the twin, the table with the tile code that GPUs run as well, and what nvcc makes of it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from srpo_kernels import native, reference
from srpo_kernels import sync_copy as ours
from srpo_kernels.reference import RowCopy, RowOrder
from srpo_kernels.sync_copy import TILE, copy_table

ROOT = Path(__file__).parents[2]
CUDA = ROOT / "kernels" / "csrc" / "cuda"
GOLDEN = ROOT / "tests" / "golden" / "cuda_resources.json"
needs_library = pytest.mark.skipif(not native.is_available(), reason="no native library")

# head 2 rows, 2 groups of 3 queries: by hand, group 0 is rows 0 to 9, of which 6, 7 are its key and 8, 9 its value
HEADS = {"head_rows": 2, "queries_per_group": 3, "groups": 2}
STACKED = [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 6, 7, 16, 17, 8, 9, 18, 19]


def matrix(rows, columns, dtype=torch.float32, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def empty(rows, columns, dtype=torch.float32):
    return torch.full((rows, columns), torch.nan, dtype=dtype)


@pytest.mark.parametrize("op", [ours, pytest.param(reference.sync_copy, id="reference")])
def test_heads_are_stacked_and_grouped_again(op):
    source, stacked, grouped = matrix(20, 5), empty(20, 5), empty(20, 5)
    op([RowCopy(source=source, target=stacked, order=RowOrder.STACK, **HEADS)])
    op([RowCopy(source=stacked, target=grouped, order=RowOrder.GROUP, **HEADS)])
    assert torch.equal(stacked, source[STACKED])
    assert torch.equal(grouped, source)


def every_kind():
    """Aligned and not, vectors, views, all casts, larger than a tile, both orders, two sources in one target."""
    kinds = [(20, 16), (20, 24), (20, 5), (3, 7), (1, TILE + 8), (2 * TILE // 64 + 3, 64), (1, 3)]
    for number, (rows, columns) in enumerate(kinds):
        for source_type, target_type in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
            source = matrix(rows, columns, source_type, seed=number)
            yield RowCopy(source=source, target=empty(rows, columns, target_type))
            yield RowCopy(source=source, target=empty(rows, columns, source_type))
            yield RowCopy(source=source, target=empty(rows + 2, columns + 8, target_type)[1:-1, 8:])  # strided
            if rows == 20:
                yield RowCopy(source=source, target=empty(20, columns, target_type), order=RowOrder.STACK, **HEADS)
                yield RowCopy(source=source, target=empty(20, columns, source_type), order=RowOrder.GROUP, **HEADS)
    gate_up = empty(12, 32)
    yield RowCopy(source=matrix(6, 32, seed=98), target=gate_up[:6])
    yield RowCopy(source=matrix(6, 32, seed=99), target=gate_up[6:])
    yield RowCopy(source=matrix(1, 50)[0], target=empty(1, 50, torch.bfloat16)[0])  # a bias
    yield RowCopy(source=matrix(20, 1)[:, 0], target=empty(20, 1)[:, 0], order=RowOrder.STACK, **HEADS)
    yield RowCopy(source=matrix(9, 18)[:, 1:17], target=empty(9, 16))  # 16 columns, but not aligned


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@needs_library
@pytest.mark.usefixtures("threads")
def test_one_table_copies_every_kind_as_the_twin_does():
    copies = list(every_kind())
    table = copy_table(copies)
    assert table.entries is not None
    table.run()
    for copy in copies:
        expected = torch.full_like(copy.target, torch.nan)
        reference.sync_copy([RowCopy(source=copy.source, target=expected, order=copy.order, **heads_of(copy))])
        assert torch.equal(copy.target, expected), (copy.source.shape, copy.source.dtype, copy.target.dtype, copy.order)


def heads_of(copy):
    return {name: getattr(copy, name) for name in HEADS}


@needs_library
def test_nothing_outside_the_targets_is_written():
    storage = empty(4, 40)
    ours([RowCopy(source=matrix(2, 16), target=storage[1:3, 8:24])])
    assert storage[1:3, 8:24].isfinite().all()
    assert storage.isnan().sum() == 4 * 40 - 2 * 16


@needs_library
def test_the_table_can_run_again_after_the_source_has_changed():
    source, target = matrix(4, 8), empty(4, 8)
    table = copy_table([RowCopy(source=source, target=target)])
    table.run()
    source.mul_(2)
    table.run()
    assert torch.equal(target, source)


def test_other_types_and_no_copies_go_to_the_twin():
    source, target = matrix(4, 8).double(), empty(4, 8, torch.float64)
    ours([RowCopy(source=source, target=target)])
    ours([])
    assert torch.equal(target, source)


def test_heads_that_do_not_fit_the_rows_are_refused():
    with pytest.raises(AssertionError, match="21 rows, expected 20"):
        RowCopy(source=matrix(21, 4), target=empty(21, 4), order=RowOrder.STACK, **HEADS)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")
def test_an_nvcc_that_cannot_compile_costs_the_cuda_library_only(tmp_path):
    target = tmp_path / "libsrpo_cuda.so"
    target.write_text("of an earlier set-up")
    result = subprocess.run(
        ["cmake", "-DNVCC=false", "-DSOURCE=sync_copy.cu", f"-DTARGET={target}", "-P", CUDA / "build.cmake"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0
    assert "no CUDA library: false failed" in result.stderr
    assert not target.exists()


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="NO NVCC: registers and spills of the CUDA code are unchecked")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_the_cuda_code_takes_no_more_registers_than_it_did_and_spills_none(architecture, tmp_path):
    result = subprocess.run(
        ["nvcc", "-O3", "-std=c++17", f"-arch={architecture}", "-Xptxas=-v", "-cubin", CUDA / "sync_copy.cu", "-o",
         tmp_path / "sync_copy.cubin"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    registers = int(re.search(r"Used (\d+) registers", result.stderr)[1])
    spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", result.stderr))
    golden = json.loads(GOLDEN.read_text())["sync_copy"][architecture]
    assert spilled == golden["spilled_bytes"] == 0
    assert registers <= golden["registers"]

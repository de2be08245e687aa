"""The script for a CUDA machine, tried without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
ROOT = Path(__file__).parents[1]


def test_every_part_runs_on_a_cpu_and_the_document_says_what_it_found(tmp_path):
    out = tmp_path / "session.json"
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_session", "--tiny", "--out", out], cwd=ROOT, capture_output=True,
        text=True, timeout=240, env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    document = json.loads(result.stdout.splitlines()[-1])
    assert document == json.loads(out.read_text())
    assert document["failed"] == {}
    parts = {name: part["rows"] for name, part in document["parts"].items()}
    assert list(parts) == ["ceilings", "correctness", "linear", "row_kernels", "accumulate", "head", "sync"]
    assert [row["op"] for row in parts["correctness"]] == ["linear_statistics", "row_statistics", "row_gradient"]
    assert all(row["error"] < 1e-5 for row in parts["correctness"])
    assert parts["linear"][0]["of_gemm"] > 0
    assert {row["variant"] for row in parts["head"] if "variant" in row} == {"ours", "torch"}
    assert parts["sync"][0]["tensors"] == 16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_a_line():
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_session"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(
        "torch sees no CUDA device here; --tiny tries the session without one"
    )

"""How large everything is that a session measures."""

from dataclasses import dataclass

import torch

from benchmarks.estimate_check import Case
from benchmarks.ops.workloads import HeadWorkload, model_workloads
from benchmarks.ops.workloads import tiny as tiny_workload

_LAUNCHING = ("triton_gradient", "triton_liger", "triton_objective", "triton_statistics", "mrope")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    device: str
    dtype: torch.dtype
    hidden_sizes: tuple[int, ...]
    vocabularies: tuple[int, ...]
    tokens: tuple[int, ...]
    chunks: tuple[int, ...]
    checked_rows: int
    copied_bytes: int
    heads: tuple[HeadWorkload, ...]
    long_head: HeadWorkload
    synced: tuple[tuple[str, int], ...]  # (model, tensor-parallel ranks)
    updated: Case  # sequences of a policy update; its sizes of a model are those of the tiny one
    suite: tuple[str, ...]  # pytest's arguments
    rounds: int


def full() -> Scale:
    workloads = {workload.name: workload for workload in model_workloads()}
    heads = ("7b/tp1/N4096/r1/z0", "7b/tp1/N4096/r0.5/z0.3", "7b/tp1/N16384/r0.5/z0.3", "32b/tp8/N16384/r0.5/z0.3")
    return Scale(
        device="cuda", dtype=torch.bfloat16, hidden_sizes=(3_584, 5_120), vocabularies=(152_064, 152_064 // 8),
        tokens=(4_096, 16_384), chunks=(2_048, 4_096, 8_192), checked_rows=300, copied_bytes=2 << 30,
        heads=tuple(workloads[name] for name in heads), long_head=workloads["7b/tp1/N65536/r1/z0"],
        synced=(("7b", 1), ("32b", 8)),
        updated=Case(dtype="bfloat16", recompute="selective", sequences=4, prompt_tokens=1_024,
                     completion_tokens=1_024, image_side=56),
        suite=("-n8", *(f"tests/ops/test_{name}.py" for name in _LAUNCHING)), rounds=11,
    )  # fmt: skip


def tiny() -> Scale:
    """Nothing to be learnt of speed."""
    return Scale(
        device="cpu", dtype=torch.float32, hidden_sizes=(16,), vocabularies=(300,), tokens=(8,), chunks=(4,),
        checked_rows=5, copied_bytes=1 << 16, heads=(tiny_workload(),), long_head=tiny_workload(),
        synced=(("tiny", 1),),
        updated=Case(dtype="float32", recompute="selective", sequences=2, prompt_tokens=20, completion_tokens=6,
                     image_side=8),
        suite=("tests/ops/test_pack_sequences.py",), rounds=2,
    )  # fmt: skip

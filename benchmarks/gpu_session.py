"""One call on a CUDA machine that measures what the kernels' design rests on: `python -m benchmarks.gpu_session`.

Parts are run in order until --minutes are over; the JSON document, the last line of stdout and --out, grows with every
part, so that one which fails costs nothing of those before it. `--tiny` tries all of it on a CPU.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.ceilings import Probe, copy_probe, gemm_probe
from benchmarks.machine import machine
from benchmarks.ops.measure import Protocol, measure_head
from benchmarks.ops.workloads import HeadWorkload, model_workloads, tiny
from benchmarks.sync_shapes import sync_copies
from benchmarks.timing import Spread, time_in_turns
from srpo_kernels import reference, triton_rows
from srpo_kernels.sync_copy import copy_table
from srpo_kernels.vocab_shard import VocabShard

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large everything is."""

    device: str
    dtype: torch.dtype
    hidden_sizes: tuple[int, ...]
    vocabularies: tuple[int, ...]
    tokens: tuple[int, ...]
    chunks: tuple[int, ...]
    checked_rows: int
    copied_bytes: int
    heads: tuple[HeadWorkload, ...]
    head_variants: tuple[str, ...] | None
    models: tuple[tuple[str, int], ...]  # (name, tensor-parallel ranks)
    rounds: int


def full() -> Scale:
    heads = ("7b/tp1/N4096/r1/z0", "7b/tp1/N4096/r0.5/z0.3", "7b/tp1/N16384/r0.5/z0.3", "32b/tp8/N16384/r0.5/z0.3")
    return Scale(
        device="cuda", dtype=torch.bfloat16, hidden_sizes=(3_584, 5_120), vocabularies=(152_064, 152_064 // 8),
        tokens=(4_096, 16_384), chunks=(2_048, 4_096, 8_192), checked_rows=300, copied_bytes=2 << 30,
        heads=tuple(w for w in model_workloads() if w.name in heads), head_variants=None,
        models=(("7b", 1), ("32b", 8)), rounds=15,
    )  # fmt: skip


def small() -> Scale:
    """Nothing to be learnt of speed. Without torch.compile, which takes longer than all the rest."""
    return Scale(
        device="cpu", dtype=torch.float32, hidden_sizes=(16,), vocabularies=(300,), tokens=(8,), chunks=(4,),
        checked_rows=5, copied_bytes=1 << 16, heads=(tiny(),), head_variants=("ours", "torch"),
        models=(("tiny", 1),), rounds=2,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all, in order")
    parser.add_argument("--minutes", type=float, default=7.0, help="no part begins after that (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="a JSON file, written after every part")
    parser.add_argument("--tiny", action="store_true", help="on a CPU, with TRITON_INTERPRET=1")
    options = parser.parse_args()
    if options.tiny and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("--tiny runs the Triton kernels in their interpreter: set TRITON_INTERPRET=1")
    if not options.tiny and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --tiny tries the session without one")
    scale = small() if options.tiny else full()
    document: dict[str, Any] = {"machine": machine(), "parts": {}, "failed": {}, "not_begun": []}
    start = time.monotonic()
    for name in options.parts:
        if time.monotonic() - start > 60 * options.minutes:
            document["not_begun"].append(name)
            continue
        rows: list[Row] = []
        try:
            for row in PARTS[name](scale):
                rows.append(row)
                print(name, " ".join(f"{key}={_said(value)}" for key, value in row.items()), flush=True)
        except (RuntimeError, AssertionError, ImportError) as error:  # a machine that is lent for minutes: go on
            document["failed"][name] = f"{type(error).__name__}: {error}"
            print(name, "FAILED", document["failed"][name], flush=True)
        document["parts"][name] = {"rows": rows, "seconds_so_far": time.monotonic() - start}
        if options.out:
            options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))
    return 1 if document["failed"] else 0


# --- the parts ---


def ceilings(scale: Scale) -> Iterator[Row]:
    size, V = max(scale.hidden_sizes), scale.vocabularies[0]
    for name, probe in {
        "copy": copy_probe(scale.copied_bytes, scale.device),
        "gemm_square": gemm_probe(2 * size, 2 * size, 2 * size, scale.dtype, scale.device),
        "gemm_head": gemm_probe(scale.tokens[0], scale.hidden_sizes[0], V, scale.dtype, scale.device),
    }.items():
        yield {"of": name, **_rate(probe, scale)}


def correctness(scale: Scale) -> Iterator[Row]:
    """The Triton kernels against fp64."""
    n, vocab = scale.checked_rows, VocabShard(temperature=0.7)
    for D, V in ((D, V) for D in scale.hidden_sizes for V in scale.vocabularies):
        hidden, weight, labels = _operands(n, D, V, scale)
        true = reference.linear_statistics(hidden.double(), weight.double(), labels, vocab=vocab)
        found = triton_rows.linear_statistics(hidden, weight, labels, vocab=vocab)
        yield {"op": "linear_statistics", "D": D, "V": V, "error": _error(found, true)}
        logits = (hidden.double() @ weight.double().T).float()
        true = reference.row_statistics(logits.double(), labels, vocab=vocab)
        yield {
            "op": "row_statistics", "V": V,
            "error": _error(triton_rows.row_statistics(logits, labels, vocab=vocab), true),
        }  # fmt: skip
        distribution = reference.merge_statistics(true[None].float())
        slopes = torch.randn(n, device=scale.device), torch.randn(n, device=scale.device)
        exact = reference.row_gradient(
            logits.double(), labels, reference.merge_statistics(true[None]), *(s.double() for s in slopes),
            vocab=vocab, dtype=torch.float64,
        )  # fmt: skip
        made = triton_rows.row_gradient(logits, labels, distribution, *slopes, vocab=vocab, dtype=torch.float32)
        yield {"op": "row_gradient", "V": V, "error": _error(made, exact)}


def linear(scale: Scale) -> Iterator[Row]:
    """The fused forward beside bare products: it pays from 83 % of one with fp32 logits on, 91 % of one with bf16."""
    for n, D, V in ((n, D, V) for n in scale.tokens for D in scale.hidden_sizes for V in scale.vocabularies):
        hidden, weight, labels = _operands(n, D, V, scale)
        vocab = VocabShard()
        rounded = torch.empty(n, V, device=scale.device, dtype=scale.dtype)
        exact = torch.empty(n, V, device=scale.device)
        runs = {
            "fused": lambda h=hidden, w=weight, y=labels, v=vocab: triton_rows.linear_statistics(h, w, y, vocab=v),
            "gemm": lambda h=hidden, w=weight, out=rounded: torch.mm(h, w.T, out=out),
            "gemm_fp32_out": lambda h=hidden, w=weight, out=exact: _product_in_fp32(h, w, out),
        }
        seconds = _times(runs, scale)
        share = {f"of_{name}": Spread.of(seconds[name]).p50 / Spread.of(seconds["fused"]).p50 for name in runs}
        yield {"n": n, "D": D, "V": V, **_all_ms(seconds), **share, "flops": 2.0 * n * D * V}


def row_kernels(scale: Scale) -> Iterator[Row]:
    """Does the gradient's second read come from the L2 cache? Then bytes_per_s exceeds the copy's."""
    n = scale.tokens[0]
    for V in scale.vocabularies:
        labels, vocab = torch.arange(n, device=scale.device) % V, VocabShard()
        logits = torch.randn(n, V, device=scale.device)
        distribution = reference.merge_statistics(triton_rows.row_statistics(logits, labels, vocab=vocab)[None])
        slopes = torch.ones(n, device=scale.device)
        runs = {
            "row_statistics": lambda x=logits, y=labels, v=vocab: triton_rows.row_statistics(x, y, vocab=v),
            "row_gradient": lambda x=logits, y=labels, d=distribution, s=slopes, v=vocab: triton_rows.row_gradient(
                x, y, d, s, None, vocab=v, dtype=scale.dtype
            ),
        }
        moved = {"row_statistics": 4.0, "row_gradient": 4.0 + scale.dtype.itemsize}
        for name, seconds in _times(runs, scale).items():
            probe = Probe(run=runs[name], work=moved[name] * n * V)
            yield {"op": name, "n": n, "V": V, "ms": 1e3 * Spread.of(seconds).p50, "bytes_per_s": probe.rate(seconds)}


def accumulate(scale: Scale) -> Iterator[Row]:
    """What the fp32 main gradient costs a chunk, over a product whose result is written once."""
    D, V = scale.hidden_sizes[0], scale.vocabularies[0]
    total = torch.zeros(V, D, device=scale.device)
    for n in scale.chunks:
        hidden, _, _ = _operands(n, D, V, scale)
        dlogits = torch.randn(n, V, device=scale.device).to(scale.dtype)
        once = torch.empty(V, D, device=scale.device, dtype=scale.dtype)
        runs = {
            "into_total": lambda g=dlogits, h=hidden: _add_product(total, g, h),
            "written_once": lambda g=dlogits, h=hidden, out=once: torch.mm(g.T, h, out=out),
        }
        yield {"chunk": n, "D": D, "V": V, **_all_ms(_times(runs, scale)), "flops": 2.0 * n * D * V}


def head(scale: Scale) -> Iterator[Row]:
    for workload in scale.heads:
        measured = measure_head(workload, Protocol(device=scale.device, rounds=scale.rounds), scale.head_variants)
        yield from (asdict(row) for row in (*measured.rows, *measured.skipped))
        yield {"ceilings": measured.ceilings}


def sync(scale: Scale) -> Iterator[Row]:
    """All matrices of a rank, trainer to engine, in one launch and in one copy each."""
    for model, ranks in scale.models:
        copies = sync_copies(model, ranks, scale.dtype, scale.device)
        table = copy_table(copies)
        moved = float(sum(2 * copy.target.nbytes for copy in copies))
        runs = {"one_launch": table.run, "copy_each": lambda c=copies: reference.sync_copy(c)}
        seconds = _times(runs, scale)
        for copy in copies:
            copy.target.zero_()
        table.run()
        first = copies[0]
        expected = torch.empty_like(first.target)
        reference.sync_copy([type(first)(source=first.source, target=expected, **_order(first))])
        assert torch.equal(first.target, expected), "the copies differ from their twin"
        rate = moved / Spread.of(seconds["one_launch"]).p20
        yield {"model": model, "tp": ranks, "tensors": len(copies), **_all_ms(seconds), "bytes_per_s": rate}


PARTS: dict[str, Callable[[Scale], Iterator[Row]]] = {
    part.__name__: part for part in (ceilings, correctness, linear, row_kernels, accumulate, head, sync)
}


# --- what they share ---


def _operands(n: int, D: int, V: int, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
    """hidden [n, D], weight [V, D], labels [n]."""
    hidden = torch.randn(n, D, device=scale.device).to(scale.dtype)
    weight = (torch.randn(V, D, device=scale.device) * (2 / D**0.5)).to(scale.dtype)
    return hidden, weight, torch.randint(V, (n,), device=scale.device)


def _product_in_fp32(hidden: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    if hidden.dtype == torch.float32:
        return torch.mm(hidden, weight.T, out=out)
    return torch.mm(hidden, weight.T, out_dtype=torch.float32, out=out)


def _add_product(total: Tensor, dlogits: Tensor, hidden: Tensor) -> Tensor:
    if hidden.dtype == torch.float32:
        return total.addmm_(dlogits.T, hidden)
    return torch.addmm(total, dlogits.T, hidden, out_dtype=torch.float32, out=total)


def _times(runs: dict[str, Callable[[], object]], scale: Scale) -> dict[str, list[float]]:
    settle = torch.cuda.synchronize if scale.device == "cuda" else lambda: None
    return time_in_turns(runs, rounds=scale.rounds, min_timing_s=0.005, clock=time.perf_counter, settle=settle)


def _rate(probe: Probe, scale: Scale) -> Row:
    seconds = _times({"probe": probe.run}, scale)["probe"]
    return {"ms": 1e3 * Spread.of(seconds).p50, "per_s": probe.rate(seconds)}


def _all_ms(seconds: dict[str, list[float]]) -> Row:
    spreads = {name: Spread.of([1e3 * s for s in values]) for name, values in seconds.items()}
    return {f"{name}_ms_{p}": getattr(spread, p) for name, spread in spreads.items() for p in ("p20", "p50", "p80")}


def _order(copy: reference.RowCopy) -> dict[str, Any]:
    return {name: getattr(copy, name) for name in ("order", "head_rows", "queries_per_group", "groups")}


def _error(found: Tensor, true: Tensor) -> float:
    """The largest, of the largest element."""
    return float((found.double() - true.double()).abs().max() / true.double().abs().max())


def _said(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())

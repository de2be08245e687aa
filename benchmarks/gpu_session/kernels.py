"""Sections about single operations: what the machine can do at most, and how near to that each kernel comes."""

import shutil
import subprocess
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.ceilings import Probe, copy_probe, gemm_probe
from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.operands import all_ms, operands, rate, times
from benchmarks.gpu_session.scale import Scale
from benchmarks.timing import Spread
from srpo_kernels import Objective, ObjectiveRows, reference, triton_rows
from srpo_kernels.head_products import add_product, logits_into
from srpo_kernels.reference import Distribution
from srpo_kernels.vocab_shard import VocabShard


def ceilings(scale: Scale) -> Iterator[Row]:
    size, V = max(scale.hidden_sizes), scale.vocabularies[0]
    for name, probe in {
        "copy": copy_probe(scale.copied_bytes, scale.device),
        "gemm_square": gemm_probe(2 * size, 2 * size, 2 * size, scale.dtype, scale.device),
        "gemm_head": gemm_probe(scale.tokens[0], scale.hidden_sizes[0], V, scale.dtype, scale.device),
    }.items():
        yield {"of": name, **rate(probe, scale)}
    if shutil.which("nvidia-smi"):  # still warm
        command = ["nvidia-smi", "--query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu", "--format=csv,noheader"]
        yield {"of": "clocks", "said": subprocess.run(command, capture_output=True, text=True, check=False).stdout}


def linear(scale: Scale) -> Iterator[Row]:
    """The fused forward beside bare products: it pays from 83 % of one with fp32 logits on, 91 % of one with bf16."""
    for n, D, V in ((n, D, V) for n in scale.tokens for D in scale.hidden_sizes for V in scale.vocabularies):
        hidden, weight, labels = operands(n, D, V, scale)
        vocab = VocabShard()
        rounded = torch.empty(n, V, device=scale.device, dtype=scale.dtype)
        exact = torch.empty(n, V, device=scale.device)
        runs = {
            "fused": lambda h=hidden, w=weight, y=labels, v=vocab: triton_rows.linear_statistics(h, w, y, vocab=v),
            "gemm": lambda h=hidden, w=weight, out=rounded: torch.mm(h, w.T, out=out),
            "gemm_fp32_out": lambda h=hidden, w=weight, out=exact: logits_into(out, h, w),
        }
        seconds = times(runs, scale)
        share = {f"of_{name}": Spread.of(seconds[name]).p50 / Spread.of(seconds["fused"]).p50 for name in runs}
        yield {"n": n, "D": D, "V": V, **all_ms(seconds), **share, "flops": 2.0 * n * D * V}


def row_kernels(scale: Scale) -> Iterator[Row]:
    """Bytes a second, of those a kernel has to move, beside a copy's in the same rounds."""
    n = scale.tokens[0]
    copy = copy_probe(scale.copied_bytes, scale.device)
    for V in scale.vocabularies:
        logits, labels = torch.randn(n, V, device=scale.device), torch.arange(n, device=scale.device) % V
        found = _distribution(logits, labels)
        runs = {
            "row_statistics": lambda x=logits, y=labels: triton_rows.row_statistics(x, y, vocab=VocabShard()),
            "row_gradient": lambda x=logits, y=labels, d=found: triton_rows.row_gradient(
                x, y, d, torch.ones_like(d.logprobs), None, vocab=VocabShard(), dtype=scale.dtype
            ),
        }
        moved = {"row_statistics": 4.0, "row_gradient": 4.0 + scale.dtype.itemsize}
        seconds = times({**runs, "copy": copy.run}, scale)
        for name, run in runs.items():
            per_s = Probe(run=run, work=moved[name] * n * V).rate(seconds[name])
            yield {
                "op": name, "n": n, "V": V, "ms": 1e3 * Spread.of(seconds[name]).p50, "bytes_per_s": per_s,
                "of_copy": per_s / copy.rate(seconds["copy"]),
            }  # fmt: skip


def accumulate(scale: Scale) -> Iterator[Row]:
    """What the fp32 main gradient costs a chunk, over a product whose result is written once."""
    D, V = scale.hidden_sizes[0], scale.vocabularies[0]
    total = torch.zeros(V, D, device=scale.device)
    for n in scale.chunks:
        hidden, _, _ = operands(n, D, V, scale)
        dlogits = torch.randn(n, V, device=scale.device).to(scale.dtype)
        once = torch.empty(V, D, device=scale.device, dtype=scale.dtype)
        runs = {
            "into_total": lambda g=dlogits, h=hidden: add_product(total, g, h),
            "written_once": lambda g=dlogits, h=hidden, out=once: torch.mm(g.T, h, out=out),
        }
        yield {"chunk": n, "D": D, "V": V, **all_ms(times(runs, scale)), "flops": 2.0 * n * D * V}


def graphs(scale: Scale) -> Iterator[Row]:
    """A chunk's row kernels launched one by one, and replayed: what there is to gain from CUDA graphs."""
    V = scale.vocabularies[-1]
    for n in (scale.chunks[0] // 4, scale.chunks[-1]):
        run = _row_work(n, V, scale)
        replay = _captured(run) if scale.device == "cuda" else run
        yield {"n": n, "V": V, "captured": replay is not run, **all_ms(times({"eager": run, "graph": replay}, scale))}


def _row_work(n: int, V: int, scale: Scale) -> Callable[[], Tensor]:
    """What happens between the products of a chunk."""
    logits, labels = torch.randn(n, V, device=scale.device), torch.arange(n, device=scale.device) % V
    logprobs = _distribution(logits, labels).logprobs
    rows = ObjectiveRows(
        rollout_logprobs=logprobs, old_logprobs=logprobs, advantages=torch.ones_like(logprobs),
        token_weights=torch.full_like(logprobs, 1 / n),
        row_offsets=torch.tensor([0, n], dtype=torch.int32, device=scale.device),
    )  # fmt: skip

    def run() -> Tensor:
        statistics = triton_rows.row_statistics(logits, labels, vocab=VocabShard())
        terms = triton_rows.objective_rows(statistics[None], rows, objective=Objective())
        found = Distribution(logprobs=terms.logprobs, entropy=terms.entropy, log_normalizer=terms.log_normalizer)
        return triton_rows.row_gradient(
            logits, labels, found, terms.dlogprobs, None, vocab=VocabShard(), dtype=scale.dtype
        )

    return run


def _captured(run: Callable[[], Tensor]) -> Callable[[], None]:
    run()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _distribution(logits: Tensor, labels: Tensor) -> Distribution:
    return reference.merge_statistics(triton_rows.row_statistics(logits, labels, vocab=VocabShard())[None])

"""The benchmarks of the paper, and the embedded task: a module each, with one constant BENCHMARK."""

from importlib import import_module
from typing import get_args

from srpo_fast.config import BenchmarkName, UserError
from srpo_fast.evaluation.benchmark import Benchmark

NAMES: tuple[BenchmarkName, ...] = get_args(BenchmarkName)


def load_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; nothing of the others is imported. Raises UserError for a name that is none."""
    if name not in NAMES:
        raise UserError(f"expected a benchmark, {', '.join(NAMES)}, got {name!r:.80}")
    return import_module(f"{__name__}.{name}").BENCHMARK

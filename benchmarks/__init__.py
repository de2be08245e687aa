"""Measurements: run from the repository root, for example `python -m benchmarks.bench_ops`."""

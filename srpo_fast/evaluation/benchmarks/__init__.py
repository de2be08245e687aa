"""The benchmarks of the paper, one a file."""

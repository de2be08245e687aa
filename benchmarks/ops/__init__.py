"""Operations against other ways of doing the same: `srpo bench ops`, or `python -m benchmarks.ops`."""

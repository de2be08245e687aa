"""The same variants under pytest-benchmark, for its statistics and comparisons: `pytest benchmarks/ops`.

Variants here run one after another, not in turns: for ratios use `srpo bench ops`.
"""

import pytest

from benchmarks.ops.truth import true_step, wrong_by
from benchmarks.ops.variants import Variant, head_variants
from benchmarks.ops.workloads import cpu_bar, make_case

pytest.importorskip("pytest_benchmark")
WORKLOAD = cpu_bar()
CASE = make_case(WORKLOAD, "cpu")
TRUTH = true_step(CASE)


@pytest.mark.parametrize("variant", list(head_variants(CASE)), ids=lambda variant: variant.name)
def test_head(benchmark, variant: Variant):
    if variant.run is None:
        pytest.skip(variant.skipped)
    assert wrong_by(variant.run(), TRUTH, WORKLOAD.dtype) is None
    benchmark(variant.run)

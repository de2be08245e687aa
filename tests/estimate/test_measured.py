"""The prediction against a measured update: a random policy of 18 M parameters in a process of its own."""

import pytest

from benchmarks.estimate_check import SMALL, check


def test_predicted_memory_of_an_update_is_within_a_tenth_of_what_the_kernel_counts():
    document = check(SMALL)
    assert abs(document["peak_error"]) < 0.10, document
    for name, part in document["parts"].items():
        assert part["predicted_mib"] == pytest.approx(part["measured_mib"], rel=0.10), name

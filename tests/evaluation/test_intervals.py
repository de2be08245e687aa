"""Intervals, against published and hand-worked values."""

import pytest

from srpo_fast.evaluation.intervals import paired_difference, wilson


@pytest.mark.parametrize(
    ("right", "total", "expected"),
    [
        (8, 10, (0.490162, 0.943318)),  # by hand from Wilson's formula
        (0, 10, (0.0, 0.277533)),  # z^2 / (n + z^2)
        (10, 10, (0.722467, 1.0)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_wilson(right, total, expected):
    assert wilson(right, total) == pytest.approx(expected, abs=1e-6)


def test_a_paired_difference_counts_the_items_that_changed():
    first = [True] * 50 + [False] * 50
    second = [True] * 45 + [False] * 5 + [True] * 15 + [False] * 35  # 15 gained, 5 lost
    difference, low, high = paired_difference(first, second)
    assert difference == pytest.approx(0.10)
    # (15.5 - 5.5) / 102, and 1.96 * sqrt(21 - 100 / 102) / 102
    assert (low, high) == pytest.approx((0.098039 - 0.085981, 0.098039 + 0.085981), abs=1e-5)


def test_equal_runs_differ_by_nothing_and_are_still_not_certain():
    difference, low, high = paired_difference([True, False] * 10, [True, False] * 10)
    assert difference == 0
    assert low == pytest.approx(-high)
    assert 0.05 < high < 0.2

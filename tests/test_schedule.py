"""The learning rate by hand."""

import pytest

from srpo_fast.schedule import learning_rate


def rates(updates: int, warmup: int, decay_share: float) -> list[float]:
    return [learning_rate(update, updates, 8.0, warmup, decay_share) for update in range(updates)]


@pytest.mark.parametrize(
    ("updates", "warmup", "decay_share", "expected"),
    [
        (4, 0, 0.0, [8, 8, 8, 8]),
        (5, 2, 0.0, [4, 8, 8, 8, 8]),
        (4, 0, 1.0, [8, 6, 4, 2]),
        (8, 2, 0.5, [4, 8, 8, 8, 8, 6, 4, 2]),
        (4, 4, 0.0, [2, 4, 6, 8]),
        (1, 0, 0.9, [8]),
    ],
)
def test_warm_up_plateau_and_decay(updates, warmup, decay_share, expected):
    assert rates(updates, warmup, decay_share) == expected


@pytest.mark.parametrize("updates", [1, 2, 7, 100])
def test_no_update_is_made_at_rate_zero(updates):
    assert min(rates(updates, updates // 10, 0.9)) > 0

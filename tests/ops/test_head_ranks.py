"""Ranks that share the vocabulary say the same, bit by bit, and together what one rank says."""

import json

import pytest

from tests.launch import run_on_ranks


@pytest.fixture(scope="module")
def ranks():
    result = run_on_ranks(4, "tests/ops/head_ranks.py")
    assert result.returncode == 0, result.stderr[-3000:]
    found = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert sorted(rank["rank"] for rank in found) == [0, 1, 2, 3]
    return found


@pytest.mark.parametrize("size", ["1", "2", "4"])
def test_every_loss_is_that_of_one_rank(ranks, size):
    for rank in ranks:
        errors = rank["errors"][size]
        assert all(error == 0 for name, error in errors.items() if name.endswith("spread")), errors
        # fp32: the log-prob of a banned label is near -140, where fp32 has steps of 1.5e-5
        assert all(error < 5e-5 for error in errors.values()), errors


def test_ranks_talk_once_a_chunk(ranks):
    """An objective of sequences needs all rows' statistics before it starts: once for all of them."""
    for rank in ranks:
        assert rank["collectives"] == {"grpo": 3, "gspo": 1}

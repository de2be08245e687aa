"""Nothing hangs for ever."""

import re
import threading
from types import SimpleNamespace

import pytest

from srpo_fast import deadline
from srpo_fast.deadline import left_to_another_rank, progress, watch
from srpo_fast.parallel import lost_rank
from tests.launch import run_script


@pytest.fixture(scope="module", params=["sleeps", "dies"])
def faulty(request: pytest.FixtureRequest) -> tuple[str, str]:
    result = run_script("tests/hang_on_ranks.py", request.param, ranks=2)
    assert result.returncode != 0
    return request.param, result.stderr


def test_a_rank_that_hangs_or_dies_ends_the_others_with_one_line(faulty):
    fault, stderr = faulty
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    if fault == "sleeps":
        # one may begin in the middle of a line of the other's
        assert sorted(re.findall(r"error: (rank \d: step 7): no progress", stderr)) == [
            "rank 0: step 7",
            "rank 1: step 7",
        ]
        assert "in wait_forever" in stderr  # where rank 1 stands
        assert "in barrier" in stderr  # and rank 0
    else:
        # torchrun may be quicker than the news of the lost connection
        assert all("another rank has ended" in line for line in errors)
        assert errors or "closing signal SIGTERM" in stderr


def test_a_lost_rank_is_told_from_other_errors():
    text = (
        "[../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:24992. This is typically caused by"
    )
    says = "another rank has ended (Connection closed by peer [127.0.0.1]:24992); its own message says why"
    assert str(lost_rank(RuntimeError(text))).startswith(says)
    assert lost_rank(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_what_advances_or_waits_for_a_working_rank_goes_on(monkeypatch):
    ended, now = threading.Event(), [0.0]
    monkeypatch.setattr(deadline, "_end", lambda limit: ended.set())
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_by(seconds: float) -> bool:
        """Whether the watch, which looks every 30 ms, has ended the process by then."""
        now[0] += seconds
        return ended.wait(0.2)

    with watch(0.3):
        for _ in range(4):
            assert not pass_by(0.2)
            progress()
        with left_to_another_rank():
            assert not pass_by(100)
    assert not pass_by(100)  # it is over
    with watch(0.3):
        now[0] += 100
        assert ended.wait(30)

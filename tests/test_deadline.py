"""Nothing hangs for ever."""

import re
import threading
from types import SimpleNamespace

import pytest

from srpo_fast import deadline
from srpo_fast.deadline import left_to_another_rank, progress, watch
from srpo_fast.parallel import lost_rank
from tests.launch import run_on_ranks, run_script


@pytest.fixture(scope="module", params=["sleeps", "dies"])
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    arguments = ("tests/hang_on_ranks.py", request.param, str(tmp_path_factory.mktemp("told")))
    # of a rank that dies, it is torchrun that ends the others
    result = run_on_ranks(2, *arguments) if request.param == "sleeps" else run_script(*arguments, ranks=2)
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
    now = [0.0]
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def is_quiet_after(seconds: float) -> bool:
        now[0] += seconds
        return deadline._is_quiet_for(0.3)

    progress()
    for _ in range(4):
        assert not is_quiet_after(0.2)
        progress()
    with left_to_another_rank():
        assert not is_quiet_after(100)
    assert not is_quiet_after(0.2)
    assert is_quiet_after(0.2)


def test_a_watch_ends_what_is_quiet_and_is_over_with_its_block(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(deadline, "_end", lambda limit: ended.set())
    with watch(600):
        assert "watch" in {thread.name for thread in threading.enumerate()}
    assert "watch" not in {thread.name for thread in threading.enumerate()}
    assert not ended.is_set()
    with watch(0.01):
        assert ended.wait(60)

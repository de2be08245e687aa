"""Workers that hang, crash, bloat and babble: each costs the call it was on, and no other."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from srpo_fast.config import UserError
from srpo_fast.workers.pool import Crashed, Done, Failed, Outcome, TimedOut, WorkerPool, WorkersDoNotStart

FUNCTIONS = """
import ctypes, os, re, subprocess, sys, threading, time
from srpo_fast.config import UserError


def make(*arguments):
    return lambda action, *rest: globals()[action](*rest)


def double(x): return 2 * x
def pid(): return os.getpid()
def pid_later(): time.sleep(0.02); return os.getpid()
def sleep(seconds): time.sleep(seconds); return seconds
def regex(): return re.fullmatch(r"(a+)+b", "a" * 60)
def power(): return 9 ** 9 ** 9
def leave(): os._exit(3)
def leave_politely(): sys.exit(4)
def segfault(): ctypes.string_at(0)
def bloat(): return bytearray(2**40)
def bloat_slowly(): held = []; [held.append(bytearray(2**26)) for _ in range(10**6)]
def babble(): print("x" * 100_000); os.write(1, b"noise"); return "said"
def huge(size): return b"r" * size
def size(data): return len(data)
def divide(): return 1 / 0
def recurse(): return recurse()
def refuse(): raise UserError("return a number")
def lambda_(): return lambda: 1
def close_all(): os.closerange(3, 65536); return 1
def leave_a_child(): return subprocess.Popen(["sleep", "600"]).pid
def leave_a_child_and_crash(path): open(path, "w").write(str(leave_a_child())); os._exit(3)
def keep_the_interpreter(): threading.Thread(target=regex, daemon=True).start(); return "gone"
def modules(): return sorted(sys.modules)
def slow(seconds): time.sleep(float(seconds)); return double
def once_broken(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(5)
    return double
def always_broken(): os._exit(5)
def unusable(): raise ImportError("no such thing")
def refused(): raise UserError("no such file")
"""
LIMIT_S = 2.0


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a module that workers, and only they, can import."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "pool_functions.py").write_text(FUNCTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield "pool_functions"


@pytest.fixture(scope="module")
def pool(functions: str) -> Iterator[WorkerPool]:
    pool = WorkerPool(f"{functions}:make", workers=2, limit_s=LIMIT_S, memory_gib=0.25)
    yield pool
    pool.close()


@pytest.fixture
def make_pool(functions: str) -> Iterator[Callable[..., WorkerPool]]:
    pools: list[WorkerPool] = []

    def make(maker: str, *arguments: str, workers: int = 1, limit_s: float = LIMIT_S) -> WorkerPool:
        pools.append(WorkerPool(f"{functions}:{maker}", *arguments, workers=workers, limit_s=limit_s, memory_gib=None))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def wait_until(happened: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.02)
    return happened()


def among_others(pool: WorkerPool, *call: object) -> Outcome:
    """The outcome of one call among twenty, once the others are seen to have theirs."""
    before = pool.replaced
    calls = [("double", x) for x in range(20)]
    outcomes = pool.run([*calls[:7], call, *calls[7:]])
    assert [*outcomes[:7], *outcomes[8:]] == [Done(2 * x) for x in range(20)]
    assert pool.replaced - before == isinstance(outcomes[7], Crashed | TimedOut)
    return outcomes[7]


@pytest.mark.parametrize("call", [("sleep", 600), ("regex",), ("power",)], ids=lambda call: call[0])
def test_a_call_that_hangs_is_ended_in_time_wherever_it_hangs(pool, call):
    pool.prepare()
    start = time.monotonic()
    assert among_others(pool, *call) == TimedOut("not done after 2 s")
    assert time.monotonic() - start < 20 * LIMIT_S  # it would be minutes


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("leave", "it exited with code 3"),
        ("segfault", "it was ended by SIGSEGV"),
        ("bloat", "it ran out of memory"),
        ("bloat_slowly", "it ran out of memory"),
    ],
)
def test_a_call_that_crashes_says_how(pool, action, says):
    assert among_others(pool, action) == Crashed(says)


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("divide", "ZeroDivisionError: division by zero (line 24 of"),
        ("recurse", "RecursionError: maximum recursion depth exceeded"),
        ("leave_politely", "SystemExit: 4"),
        ("lambda_", "Can't pickle"),
        ("no_such_action", "KeyError: 'no_such_action'"),
    ],
)
def test_a_call_that_raises_says_what_and_where_and_keeps_its_worker(pool, action, says):
    outcome = among_others(pool, action)
    assert isinstance(outcome, Failed)
    assert says in outcome.reason
    assert "\n" not in outcome.reason


def test_many_bad_calls_at_once_are_counted_exactly(pool):
    before = pool.replaced
    bad = {3: ("leave",), 4: ("segfault",), 5: ("sleep", 600), 11: ("divide",), 12: ("leave",), 19: ("sleep", 600)}
    outcomes = pool.run([bad.get(x, ("double", x)) for x in range(20)])
    kinds = {x: type(outcomes[x]) for x in bad}
    assert kinds == {3: Crashed, 4: Crashed, 5: TimedOut, 11: Failed, 12: Crashed, 19: TimedOut}
    assert all(outcomes[x] == Done(2 * x) for x in range(20) if x not in bad)
    assert pool.replaced - before == 5


def test_what_a_call_prints_does_not_mix_with_its_result(pool, capfd):
    assert among_others(pool, "babble") == Done("said")
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "noise" in printed.err


def test_results_and_arguments_may_be_large(pool):
    assert pool.run([("huge", 5_000_000)]) == [Done(b"r" * 5_000_000)]
    assert among_others(pool, "size", b"a" * 5_000_000) == Done(5_000_000)


def test_no_calls_start_no_worker(make_pool):
    pool = make_pool("make", workers=2)
    assert pool.run([]) == []
    assert pool._workers == []
    pool.run([("pid",)])
    assert len(pool._workers) == 1


def test_workers_are_kept_from_one_run_to_the_next_and_the_work_is_shared(make_pool):
    pool = make_pool("make", workers=2)

    def pids() -> set[int]:
        return {outcome.value for outcome in pool.run([("pid_later",)] * 10)}

    assert wait_until(lambda: len(pids()) == 2)
    assert pids() == pids()


def test_a_worker_killed_while_idle_costs_nothing(make_pool):
    pool = make_pool("make")
    (outcome,) = pool.run([("pid",)])
    os.kill(outcome.value, 9)
    assert wait_until(lambda: not is_running(outcome.value))
    assert pool.run([("double", 4)]) == [Done(8)]
    assert pool.replaced == 0


def test_a_worker_that_does_not_listen_any_more_is_a_call_that_hangs(make_pool):
    pool = make_pool("make")
    assert pool.run([("keep_the_interpreter",)]) in ([Done("gone")], [TimedOut("not done after 2 s")])
    outcomes = pool.run([("size", b"a" * 5_000_000), ("double", 1)])
    assert outcomes[1] == Done(2)


def test_a_worker_that_closes_its_channel_has_crashed(pool):
    assert isinstance(among_others(pool, "close_all"), Crashed)


def test_a_mistake_of_the_users_is_raised_at_once_and_the_pool_goes_on(pool):
    with pytest.raises(UserError, match="return a number"):
        pool.run([("sleep", 1.0), ("refuse",), ("double", 1)])
    assert pool.run([("double", x) for x in range(4)]) == [Done(2 * x) for x in range(4)]


def test_a_slow_start_is_no_slow_call(make_pool):
    assert make_pool("slow", "2", limit_s=0.5).run([(3,)]) == [Done(6)]


def test_a_start_that_fails_once_is_tried_again(make_pool, tmp_path):
    assert make_pool("once_broken", str(tmp_path / "mark")).run([(3,)]) == [Done(6)]


def test_a_start_that_cannot_succeed_is_an_error(make_pool):
    with pytest.raises(WorkersDoNotStart, match=r"3 times in a row .* exited with code 5"):
        make_pool("always_broken").prepare()
    with pytest.raises(WorkersDoNotStart, match="ImportError: no such thing"):
        make_pool("unusable").run([(1,)])
    with pytest.raises(WorkersDoNotStart, match="has no attribute 'nothing'"):
        make_pool("nothing").run([(1,)])
    pool = make_pool("refused")
    for _ in range(2):
        with pytest.raises(UserError, match="no such file"):
            pool.prepare()


def test_what_a_call_started_ends_with_its_worker(make_pool, tmp_path):
    pool = make_pool("make")
    (outcome,) = pool.run([("leave_a_child",)])
    assert is_running(outcome.value)
    pool.close()
    assert wait_until(lambda: not is_running(outcome.value))
    pool.run([("leave_a_child_and_crash", str(tmp_path / "pid"))])
    assert wait_until(lambda: not is_running(int((tmp_path / "pid").read_text())))


def test_workers_hold_nothing_of_this_program(pool):
    (outcome,) = pool.run([("modules",)])
    assert not {"torch", "vllm", "megatron", "transformers", "sympy"} & set(outcome.value)


def test_closing_ends_the_workers_and_leaves_no_zombie(make_pool):
    pool = make_pool("make", workers=2)
    pids = {outcome.value for outcome in pool.run([("pid",)] * 40)}
    pool.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


PARENT = """
    import sys, time
    from srpo_fast.workers.pool import WorkerPool
    if __name__ != "__main__":
        raise SystemExit("a worker has imported the main module")
    pool = WorkerPool("pool_functions:make", workers=1, limit_s=0.5, memory_gib=None)
    print(pool.run([("pid",)])[0].value, flush=True)
    {ending}
"""


@pytest.mark.parametrize(
    "ending",
    ["", "raise ValueError", "time.sleep(600)", "pool._limit_s = 600; pool.run([('regex',)])"],
    ids=["end", "exception", "killed", "killed with a call that hangs"],
)
def test_workers_end_with_their_parent(functions, tmp_path, ending):
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENT).format(ending=ending))
    with subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        if "60" in ending:
            time.sleep(0.3)  # for the call to begin
            assert is_running(worker)
            parent.kill()
    assert wait_until(lambda: not is_running(worker))

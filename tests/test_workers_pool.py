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
from tests.waiting import PATIENCE_S, wait_until

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
LIMIT_S = 1.0  # where something hangs; what does not takes milliseconds


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
    pool = WorkerPool(f"{functions}:make", workers=2, limit_s=PATIENCE_S, memory_gib=0.25)
    yield pool
    pool.close()


@pytest.fixture
def make_pool(functions: str) -> Iterator[Callable[..., WorkerPool]]:
    pools: list[WorkerPool] = []

    def make(maker: str, *arguments: str, workers: int = 1, limit_s: float = PATIENCE_S) -> WorkerPool:
        pools.append(WorkerPool(f"{functions}:{maker}", *arguments, workers=workers, limit_s=limit_s, memory_gib=None))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def among_others(pool: WorkerPool, *calls: tuple[object, ...]) -> list[Outcome]:
    """The outcomes of calls among twenty others, once those are seen to have theirs."""
    before, end = pool.replaced, 7 + len(calls)
    others = [("double", x) for x in range(20)]
    outcomes = pool.run([*others[:7], *calls, *others[7:]])
    assert [*outcomes[:7], *outcomes[end:]] == [Done(2 * x) for x in range(20)]
    found = outcomes[7:end]
    assert pool.replaced - before == sum(isinstance(outcome, Crashed | TimedOut) for outcome in found)
    return found


def test_calls_that_hang_are_ended_in_time_wherever_they_hang(make_pool):
    pool = make_pool("make", workers=2, limit_s=LIMIT_S)
    pool.prepare()
    start = time.monotonic()
    late = TimedOut("not done after 1 s")
    outcomes = among_others(pool, ("sleep", 600), ("leave",), ("regex",), ("power",))
    assert outcomes == [late, Crashed("it exited with code 3"), late, late]
    assert time.monotonic() - start < PATIENCE_S  # it would be many minutes


def test_calls_that_crash_say_how(pool):
    outcomes = among_others(pool, ("leave",), ("segfault",), ("bloat",), ("divide",), ("bloat_slowly",))
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, Crashed)] == [
        "it exited with code 3", "it was ended by SIGSEGV", "it ran out of memory", "it ran out of memory",
    ]  # fmt: skip
    assert [type(outcome) for outcome in outcomes] == [Crashed, Crashed, Crashed, Failed, Crashed]


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
    (outcome,) = among_others(pool, (action,))
    assert isinstance(outcome, Failed)
    assert says in outcome.reason
    assert "\n" not in outcome.reason


def test_what_a_call_prints_does_not_mix_with_its_result(make_pool, capfd):
    assert among_others(make_pool("make"), ("babble",)) == [Done("said")]
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "noise" in printed.err


def test_results_and_arguments_may_be_large(pool):
    assert pool.run([("huge", 5_000_000)]) == [Done(b"r" * 5_000_000)]
    assert among_others(pool, ("size", b"a" * 5_000_000)) == [Done(5_000_000)]


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
    pool = make_pool("make", limit_s=LIMIT_S)
    assert pool.run([("keep_the_interpreter",)]) in ([Done("gone")], [TimedOut("not done after 1 s")])
    outcomes = pool.run([("size", b"a" * 5_000_000), ("double", 1)])
    assert outcomes[1] == Done(2)


def test_a_worker_that_closes_its_channel_has_crashed(pool):
    (outcome,) = among_others(pool, ("close_all",))
    assert isinstance(outcome, Crashed)


def test_a_mistake_of_the_users_is_raised_at_once_and_the_pool_goes_on(pool):
    with pytest.raises(UserError, match="return a number"):
        pool.run([("sleep", 0.5), ("refuse",), ("double", 1)])
    assert pool.run([("double", x) for x in range(4)]) == [Done(2 * x) for x in range(4)]


def test_a_slow_start_is_no_slow_call(make_pool):
    assert make_pool("slow", "1.5", limit_s=1.0).run([(3,)]) == [Done(6)]


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
    pool = WorkerPool("pool_functions:make", workers=1, limit_s=2, memory_gib=None)
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
            time.sleep(0.3)  # for the call to begin; if it has not, the worker ends as well
            assert is_running(worker)
            parent.kill()
    assert wait_until(lambda: not is_running(worker))

"""Calls of one function in processes that can be killed: a call that hangs or crashes costs its own result only.

A worker is a fresh interpreter (main.py), not a fork or a copy of the program's main module: it holds what its
function imports and nothing else. It gets one call at a time. When the call takes too long, or the process ends under
it, the process is killed with everything it started, that call's outcome says so, and another worker takes its place.
"""

import contextlib
import math
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from srpo_fast.config import UserError
from srpo_fast.workers.main import HEADER, OUT_OF_MEMORY, frame

START_LIMIT_S = 120.0  # to start an interpreter and import what the function needs, on a busy machine
MAX_FAILED_STARTS = 3  # in a row
_CHUNK = 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Done:
    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The function raised an exception."""

    reason: str  # its type, message and place, in one line


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The call was not done within the limit."""

    reason: str


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process ended under the call, or had no memory left for it."""

    reason: str


Outcome = Done | Failed | TimedOut | Crashed


class WorkersDoNotStart(RuntimeError):
    """No worker can make the function; the message says why."""


class WorkerPool:
    """Starts its workers when they are first needed. They end with close(), with the pool, and with this process."""

    def __init__(self, make: str, *arguments: str, workers: int, limit_s: float, memory_gib: float | None) -> None:
        """make: "module:function", called in every worker with `arguments`; it returns the function to be called.

        limit_s: seconds a call may take. memory_gib: of address space that a worker may have; None: no limit.
        """
        self.replaced = 0  # workers that ended under a call, by themselves or by the limit
        self._make = (str(limit_s), str(memory_gib or 0), make, *arguments)
        self._most, self._limit_s = workers, limit_s
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        weakref.finalize(self, _end_all, self._workers)

    def run(self, calls: Sequence[tuple[Any, ...]]) -> list[Outcome]:
        """The outcome of every call, in order. The results' types must be known in this process too.

        Raises an UserError of the function's at once, and WorkersDoNotStart.
        """
        waiting = deque(enumerate(calls))
        outcomes: dict[int, Outcome] = {}
        try:
            while len(outcomes) < len(calls):
                self._keep(min(self._most, len(calls) - len(outcomes)))
                self._hand_out(waiting)
                for worker in self._awaited():
                    if over := self._advance(worker):
                        number, outcomes[number] = over
        finally:
            # after an exception: a late answer would be taken for that of another call
            _end_all(self._workers, [worker for worker in self._workers if worker.call is not None])
        return [outcomes[number] for number in range(len(calls))]

    def prepare(self) -> None:
        """Returns when a worker has made the function. Raises what run() raises."""
        while not any(worker.is_ready for worker in self._workers):
            self._keep(1)
            for worker in self._awaited():
                self._advance(worker)

    def close(self) -> None:
        """Ends the workers; the next run() starts others."""
        _end_all(self._workers)

    def _keep(self, number: int) -> None:
        """Drops workers that ended while they had nothing to do, and starts what is missing."""
        idle = [worker for worker in self._workers if worker.is_ready and worker.call is None]
        _end_all(self._workers, [worker for worker in idle if worker.process.poll() is not None])
        while len(self._workers) < number:
            self._workers.append(_start(self._make))

    def _hand_out(self, waiting: deque[tuple[int, tuple[Any, ...]]]) -> None:
        for worker in self._workers:
            if waiting and worker.is_ready and worker.call is None:
                worker.call, arguments = waiting.popleft()
                worker.outgoing = memoryview(frame(arguments))
                worker.deadline = time.monotonic() + self._limit_s

    def _awaited(self) -> "list[_Worker]":
        """Every worker, as soon as one of them can be talked to or is late."""
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.outgoing else 0)
                selector.register(worker.channel, wanted)
            selector.select(max(0.0, min(worker.deadline for worker in self._workers) - time.monotonic()))
        return list(self._workers)

    def _advance(self, worker: "_Worker") -> tuple[int, Outcome] | None:
        """The number and the outcome of the worker's call, if it is over."""
        is_open = worker.exchange()
        if message := worker.message():
            return self._answered(worker, *message)
        if not is_open:
            return self._lost(worker, Crashed(_ending(worker.process)))
        if time.monotonic() >= worker.deadline:
            limit_s = self._limit_s if worker.is_ready else START_LIMIT_S
            return self._lost(worker, TimedOut(f"not done after {limit_s:g} s"))
        return None

    def _answered(self, worker: "_Worker", kind: str, value: Any) -> tuple[int, Outcome] | None:
        if kind in ("refused", "unusable"):
            _end_all(self._workers, [worker])
            raise UserError(value) if kind == "refused" else WorkersDoNotStart(value)
        number, worker.call, worker.deadline, worker.is_ready = worker.call, None, math.inf, True
        self._failed_starts = 0
        if number is None:
            assert kind == "ready", f"{kind=}"
            return None
        return number, Done(value) if kind == "done" else Failed(value)

    def _lost(self, worker: "_Worker", outcome: TimedOut | Crashed) -> tuple[int, Outcome] | None:
        _end_all(self._workers, [worker])
        if worker.call is not None:
            self.replaced += 1
            return worker.call, outcome
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts == MAX_FAILED_STARTS:
                raise WorkersDoNotStart(f"{MAX_FAILED_STARTS} times in a row a worker did not start: {outcome.reason}")
        return None


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    deadline: float
    call: int | None = None  # the number of the call it is on
    is_ready: bool = False  # it has made its function
    outgoing: memoryview = field(default_factory=lambda: memoryview(b""))
    incoming: bytearray = field(default_factory=bytearray)

    def exchange(self) -> bool:
        """Sends and receives what can be without waiting; False when the other end is closed."""
        try:
            with contextlib.suppress(BlockingIOError):
                if self.outgoing:
                    self.outgoing = self.outgoing[self.channel.send(self.outgoing) :]
            received = self.channel.recv(_CHUNK)
        except BlockingIOError:
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False
        self.incoming += received
        return bool(received)

    def message(self) -> tuple[str, Any] | None:
        """The message that has come in, once it is whole."""
        if len(self.incoming) < HEADER.size:
            return None
        end = HEADER.size + HEADER.unpack_from(self.incoming)[0]
        if len(self.incoming) < end:
            return None
        content, self.incoming = bytes(self.incoming[HEADER.size : end]), bytearray()
        return pickle.loads(content)


def _start(make: tuple[str, ...]) -> _Worker:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "srpo_fast.workers.main", str(theirs.fileno()), *make],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=2,  # what the function prints must not mix with what this program does
            start_new_session=True,  # Ctrl-C is for us; and what it starts can be killed with it
        )
    ours.setblocking(False)
    return _Worker(process=process, channel=ours, deadline=time.monotonic() + START_LIMIT_S)


def _end_all(workers: list[_Worker], some: list[_Worker] | None = None) -> None:
    """Ends `some` of the workers, by default all, and takes them out of the list."""
    for worker in list(workers) if some is None else some:
        workers.remove(worker)
        with contextlib.suppress(ProcessLookupError):  # it and all it started have ended
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        worker.channel.close()


def _ending(process: subprocess.Popen[bytes]) -> str:
    """How a process ended whose channel is closed."""
    try:
        code = process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return "it closed its channel"
    if code == OUT_OF_MEMORY:
        return "it ran out of memory"
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it exited with code {code}"

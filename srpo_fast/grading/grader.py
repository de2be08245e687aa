"""Verdicts on many answers at once: strings and numbers here, symbolic comparison in processes that can be killed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from srpo_fast.config import RewardConfig
from srpo_fast.grading import Gold, Verdict, quick_verdict
from srpo_fast.workers.pool import Crashed, Done, Failed, Outcome, TimedOut, WorkerPool

MEMORY_GIB = 4.0  # of address space a worker: sympy needs a tenth of it, and a runaway must not take the machine
MAX_REMEMBERED = 2**16  # symbolic verdicts: training compares the same few strings over and over

Pair = tuple[str, Gold]  # an answer's value and what it is compared with


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on one answer; of one that could not be reached, what went wrong."""

    verdict: Verdict
    failure: str | None = None


class Grader:
    """Starts its workers with the first answer that strings and numbers do not decide."""

    def __init__(self, settings: RewardConfig) -> None:
        self._pool = WorkerPool(
            "srpo_fast.grading.grader:load_symbolic_verdict",
            workers=settings.workers,
            limit_s=settings.time_limit,
            memory_gib=MEMORY_GIB,
        )
        self._known: dict[Pair, Check] = {}

    def checks(self, pairs: Iterable[Pair]) -> dict[Pair, Check]:
        """The verdict on every pair, each compared once however often it comes."""
        checks: dict[Pair, Check] = {}
        unclear: list[Pair] = []
        for pair in dict.fromkeys(pairs):
            if verdict := quick_verdict(*pair):
                checks[pair] = Check(verdict)
            elif known := self._known.get(pair):
                checks[pair] = known
            else:
                unclear.append(pair)
        for pair, outcome in zip(unclear, self._pool.run(unclear), strict=True):
            checks[pair] = _check(pair, outcome)
            if isinstance(outcome, Done):  # what went wrong once may have been the machine's fault
                self._remember(pair, checks[pair])
        return checks

    def close(self) -> None:
        """Ends the workers; others are started when they are needed."""
        self._pool.close()

    def _remember(self, pair: Pair, check: Check) -> None:
        while len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[pair] = check


def load_symbolic_verdict() -> Callable[[str, Gold], Verdict]:
    """What the workers call. sympy is imported there only."""
    from srpo_fast.grading.expressions import symbolic_verdict

    return symbolic_verdict


def _check(pair: Pair, outcome: Outcome) -> Check:
    match outcome:
        case Done(verdict):
            return Check(verdict)
        case TimedOut(reason):
            verdict = Verdict.TIMEOUT
        case Failed(reason) | Crashed(reason):
            verdict = Verdict.CRASH
    answer, gold = pair
    return Check(verdict, f"comparing {answer!r:.80} with the gold {gold.text!r:.80}: {reason}")

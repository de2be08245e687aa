"""Marks for many answers at once: each is read by itself, and what only symbolic comparison can tell is asked once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from srpo_fast.evaluation.benchmark import Answer, Item, Mark
from srpo_fast.grading import Verdict
from srpo_fast.grading.grader import Grader, Pair


@dataclass(frozen=True, slots=True)
class Pending:
    """An answer whose mark hangs on comparisons."""

    pairs: tuple[Pair, ...]
    settle: Callable[[Sequence[Verdict]], Mark]  # verdicts in the order of the pairs


Reading = Callable[[Item, str], Mark | Pending]  # an item and the text in which its answer is to be found


def marks_of(answers: Sequence[Answer], grader: Grader, read: Reading) -> list[Mark]:
    """One mark an answer, in order; every comparison goes to the grader in one call."""
    readings = [read(item, text) for item, text in answers]
    checks = grader.checks(pair for reading in readings if isinstance(reading, Pending) for pair in reading.pairs)
    return [
        reading.settle([checks[pair].verdict for pair in reading.pairs]) if isinstance(reading, Pending) else reading
        for reading in readings
    ]

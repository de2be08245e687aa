"""Responses become marks: both answers of every item, by the benchmark's own rules."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, Mark
from srpo_fast.evaluation.solutions import Protocol, Solutions, find_solutions
from srpo_fast.grading.grader import Grader

CHUNK = 256  # items: enough for the workers, little enough for a bar that moves

NO_RESPONSE = Mark(is_right=False, extracted="", rule="no response")
NO_ANSWER = Mark(is_right=False, extracted="", rule="no answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """An item with what became of its response."""

    item: Item
    response: str | None  # None: there is none
    solutions: Solutions | None
    first: Mark
    last: Mark


def mark_all(
    benchmark: Benchmark, items: Sequence[Item], responses: Mapping[str, str], protocol: Protocol, grader: Grader,
    advance: Callable[[int], object],
) -> list[Marked]:  # fmt: skip
    """Every item in order."""
    marked: list[Marked] = []
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        found = [
            find_solutions(text, protocol) if (text := responses.get(item.id)) is not None else None for item in chunk
        ]
        marks = _marks(benchmark, zip(chunk, found, strict=True), grader)
        for item, solutions in zip(chunk, found, strict=True):
            first, last = (
                (NO_RESPONSE, NO_RESPONSE)
                if solutions is None
                else (marks[item.id, solutions.first], marks[item.id, solutions.last])
            )
            marked.append(
                Marked(item=item, response=responses.get(item.id), solutions=solutions, first=first, last=last)
            )
        advance(len(chunk))
    return marked


def _marks(
    benchmark: Benchmark, found: Iterable[tuple[Item, Solutions | None]], grader: Grader
) -> dict[tuple[str, str], Mark]:
    """The mark of every answer by item and text, each made once."""
    answers: dict[tuple[str, str], Answer] = {
        (item.id, text): (item, text)
        for item, solutions in found
        if solutions is not None
        for text in (solutions.first, solutions.last)
    }
    said = {key: answer for key, answer in answers.items() if answer[1]}
    marks = benchmark.mark(list(said.values()), grader) if said else []
    return dict.fromkeys(answers, NO_ANSWER) | dict(zip(said, marks, strict=True))

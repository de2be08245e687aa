"""Every record read, every image decoded, every problem named."""

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from srpo_fast.atomic_file import replacing
from srpo_fast.bad_record import BadRecord, Problem, Reason
from srpo_fast.dataset import QuestionFile
from srpo_fast.inspection.figures import LengthOf

THREADS = min(16, 2 * (os.cpu_count() or 1))  # decoders let others run while they work
_AHEAD = 64  # questions in work at a time: their decoded images are what takes memory

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    num_records: int
    num_images: int  # decoded without fault
    problems: tuple[Problem, ...]  # in the order of the file

    @property
    def reasons(self) -> list[tuple[Reason, int]]:
        return Counter(problem.reason for problem in self.problems).most_common()


def check(
    questions: QuestionFile, length_of: LengthOf | None, track: Callable[[Iterable[T], int], Iterable[T]]
) -> Findings:
    """The problems of a whole file. track: shows progress over an iterable of so many.

    length_of: raises BadRecord for a prompt that is too long; None: any length will do.
    """
    problems = list(questions.problems)
    num_images = 0
    results = _in_threads(partial(_decode, questions), range(len(questions)))
    for index, decoded in enumerate(track(results, len(questions))):  # type: ignore[arg-type]
        name = questions.id(index)
        try:
            if isinstance(decoded, BadRecord):
                raise decoded
            num_images += len(decoded)
            if length_of:
                length_of(name, questions.entry(index).text, decoded)
        except BadRecord as error:
            problems.append(error.at(name, questions.place(index)))
    problems.sort(key=lambda problem: int(problem.place.split()[1]))
    return Findings(num_records=questions.num_records, num_images=num_images, problems=tuple(problems))


def write_problems(path: Path, findings: Findings) -> None:
    """Replaces `path` by a JSON line for every problem, as a run's quarantine.jsonl has them."""
    with replacing(path) as partial_file:
        lines = (json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in findings.problems)
        partial_file.write_text("".join(lines), encoding="utf-8")


def _decode(questions: QuestionFile, index: int) -> Sequence[tuple[int, int]] | BadRecord:
    """The sizes of a question's images after resizing, or what is wrong with them."""
    try:
        return [image.size for image in questions[index].images]
    except BadRecord as error:
        return error


def _in_threads(work: Callable[[int], T], indices: Sequence[int]) -> Iterator[T]:
    """The results in order, at most _AHEAD of them begun before they are asked for."""
    with ThreadPoolExecutor(THREADS) as pool:
        begun: deque[Future[T]] = deque()
        for index in indices:
            begun.append(pool.submit(work, index))
            if len(begun) == _AHEAD:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()

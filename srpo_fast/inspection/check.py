"""Every record read, every image decoded, every problem named."""

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from srpo_fast.atomic_file import replacing
from srpo_fast.bad_record import BadRecord, Problem, Reason
from srpo_fast.dataset import QuestionFile

if TYPE_CHECKING:
    from srpo_fast.prompts import PromptEncoder

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimit:
    """Beside the record and its images, the length of the prompt is checked."""

    encoder: "PromptEncoder"
    system_prompt: str


def check(
    questions: QuestionFile, limit: PromptLimit | None, track: Callable[[Iterable[T], int], Iterable[T]]
) -> Findings:
    """The problems of a whole file. track: shows progress over an iterable of so many."""
    problems = list(questions.problems)
    num_images = 0
    results = _in_threads(partial(_decode, questions), range(len(questions)))
    for index, decoded in enumerate(track(results, len(questions))):  # type: ignore[arg-type]
        if not isinstance(decoded, BadRecord):
            num_images += len(decoded)
            decoded = _measure(questions, index, decoded, limit) if limit else decoded
        if isinstance(decoded, BadRecord):
            place = questions.place(index)
            problems.append(Problem(id=questions.id(index), place=place, reason=decoded.reason, message=str(decoded)))
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


def _measure(
    questions: QuestionFile, index: int, sizes: Sequence[tuple[int, int]], limit: PromptLimit
) -> Sequence[tuple[int, int]] | BadRecord:
    name, text = questions.id(index), questions.entry(index).text
    try:
        limit.encoder.prompt_length(name, text, sizes, limit.system_prompt)
    except BadRecord as error:
        return error
    return sizes


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

"""Questions that cannot be used: written down once, counted, and a run's end when they are too many."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from srpo_fast.atomic_file import cut_torn_line
from srpo_fast.bad_record import Problem
from srpo_fast.batch import Question
from srpo_fast.config import UserError
from srpo_fast.dataset import QuestionFile

BadRecords = Literal["quarantine", "stop"]
SHOWN = 20  # problems named in an error


class Quarantine:
    """What was left out of which data, for one run.

    file: JSON lines (data, id, place, reason, message), appended to once for every question, also over resumes; None
    where nothing is to be written. policy: "stop" ends the run at the first problem, "quarantine" when more than
    max_share of a file's records have one. note: told how many a file has whenever they become more.
    """

    def __init__(
        self, file: Path | None, policy: BadRecords, max_share: float, note: Callable[[str], None] = lambda text: None
    ) -> None:
        self._file, self._policy, self._max_share, self._note = file, policy, max_share, note
        # by data, then by place: the id of what could not be read is made up, and may be another's
        self._problems: dict[str, dict[str, Problem]] = {}
        self._written: set[tuple[str, str]] = set()  # data and place
        if file is not None and file.is_file():
            cut_torn_line(file)  # its question will be met again
            self._written = {(line["data"], line["place"]) for line in map(json.loads, file.read_bytes().splitlines())}

    def __len__(self) -> int:
        return sum(len(problems) for problems in self._problems.values())

    def add(self, questions: Sequence[Question], problems: Iterable[Problem]) -> None:
        """Takes problems of `questions`; those it has already count once. Raises UserError when they are too many."""
        data, total = _data(questions)
        held = self._problems.setdefault(data, {})
        new = {problem.place: problem for problem in problems if problem.place not in held}
        if not new:
            return
        held.update(new)
        self._write(data, new.values())
        if self._policy == "stop":
            raise UserError(f"{data} has records that cannot be used{_details(held)}")
        self._note(f"{data}: {len(held)} of {total} questions left out ({_reasons(held)})")
        if len(held) > self._max_share * total:
            raise UserError(
                f"{data}: {len(held)} of {total} questions cannot be used ({_reasons(held)}), more than "
                f"data.max_bad_share={self._max_share} allows{_details(held)}"
            )

    def _write(self, data: str, problems: Iterable[Problem]) -> None:
        if self._file is None:
            return
        with self._file.open("a", encoding="utf-8") as file:
            for problem in problems:
                if (data, problem.place) not in self._written:
                    self._written.add((data, problem.place))
                    file.write(json.dumps({"data": data, **asdict(problem)}, ensure_ascii=False) + "\n")


def _data(questions: Sequence[Question]) -> tuple[str, int]:
    """What to call the data, and how many questions there are in all."""
    if isinstance(questions, QuestionFile):
        return str(questions.path), questions.num_records
    return "embedded", len(questions)


def _reasons(problems: dict[str, Problem]) -> str:
    counts = Counter(problem.reason for problem in problems.values())
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _details(problems: dict[str, Problem]) -> str:
    """The first problems, a line each."""
    lines = [f"\n  {problem}" for problem in list(problems.values())[:SHOWN]]
    more = len(problems) - len(lines)
    return ":" + "".join(lines) + (f"\n  and {more} more" if more else "")

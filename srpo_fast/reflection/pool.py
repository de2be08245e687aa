"""The questions stage 1 draws from, and the draw."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from srpo_fast.bad_record import BadRecord, Problem
from srpo_fast.batch import Question
from srpo_fast.chat.replies import one_line
from srpo_fast.reflection.records import Rejection, Step


class Pool:
    """Questions by id. An image is decoded when its question is asked for, and not kept."""

    def __init__(
        self, questions: Sequence[Question], ids: Sequence[str], problems: Sequence[Problem] = (),
        descriptions: Mapping[Path, str] | None = None,
    ) -> None:  # fmt: skip
        """ids: of `questions`, in their order, all different. problems: records of the same file that are no use.

        descriptions: of images, by their file; they go before a question's own.
        """
        self.problems = problems
        self._descriptions = descriptions or {}
        self._questions = questions
        self._places = {question_id: place for place, question_id in enumerate(ids)}
        assert len(self._places) == len(questions) == len(ids), f"{len(self._places)=} {len(questions)=} {len(ids)=}"

    def __len__(self) -> int:
        return len(self._questions)

    def question(self, question_id: str) -> Question:
        """Raises BadRecord when an image turns out to be damaged."""
        question = self._questions[self._places[question_id]]
        own = question.descriptions or (None,) * len(question.image_files)
        described = [
            self._descriptions.get(file, mine) if file else mine
            for file, mine in zip(question.image_files, own, strict=True)
        ]
        return replace(question, descriptions=tuple(described))

    def draw(self, count: int, seed: int) -> list[str]:
        """The ids of `count` questions or of all, in the pool's order; a larger draw holds a smaller one."""
        ids = list(self._places)
        shuffled = random.Random(seed).sample(range(len(ids)), len(ids))
        return [ids[place] for place in sorted(shuffled[:count])]

    def readable(self, ids: Iterable[str]) -> Iterator[Question | Rejection]:
        """The questions of `ids`, read when they are taken; a Rejection where an image is damaged."""
        for question_id in ids:
            try:
                yield self.question(question_id)
            except BadRecord as error:
                yield Rejection(id=question_id, step=Step.POOL, reason=error.reason, detail=one_line(str(error)))

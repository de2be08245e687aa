"""A program in the place of the stronger model: it knows what every picture shows, so its reflections are right."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from srpo_fast.batch import Question
from srpo_fast.embedded.task import Sample, careful_thought

_FIRST_ANSWER = re.compile(r"<think>(\d+)[^<]*</think>\s*<answer>\$\\boxed\{(\d+)\}\$</answer>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    text: str  # what is wrong with the first answer, or "ok"
    reasoning: str  # the careful way to the right answer


class EmbeddedTeacher:
    def __init__(self, samples: Iterable[Sample]) -> None:
        """A teacher for these samples; their ids must differ."""
        self._samples = {sample.question.id: sample for sample in samples}

    def reflect(self, question: Question, first: str) -> Reflection | None:
        """The judgement on a first answer and the careful reasoning; None when the answer has not its form.

        Raises ValueError for a question that is not one of the teacher's samples.
        """
        sample = self._samples.get(question.id)
        if sample is None or sample.question.answer != question.answer:
            raise ValueError(f"no sample is known for question {question.id!r}: give EmbeddedTeacher its sample")
        parts = _FIRST_ANSWER.search(first)
        if parts is None or len(parts[1]) != len(sample.digits):
            return None
        reading = tuple(int(digit) for digit in parts[1])
        return Reflection(text=_judge(sample, reading, parts[2]), reasoning=careful_thought(sample))


def _judge(sample: Sample, reading: tuple[int, ...], given: str) -> str:
    for read, shown in zip(reading, sample.digits, strict=True):
        if read != shown:
            return f"reading wrong; {read} is {shown}"
    return "ok" if given == sample.question.answer else "answer wrong"

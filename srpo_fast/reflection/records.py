"""What the steps of stage 1 find out about a question, as the journals keep it: frozen dataclasses of plain values.

Question -> FirstAnswer -> Judgement (if there is a judge) -> Reflection -> SftExample; a Rejection ends it early.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from srpo_fast.batch import Question
from srpo_fast.responses import parse


class Step(StrEnum):
    POOL = "pool"
    ANSWER = "answer"
    JUDGE = "judge"
    REFLECT = "reflect"
    EXAMPLE = "example"


class Reason(StrEnum):
    """Why a question goes no further; bad records and failures have reasons of their own (bad_record, chat)."""

    CUT_OFF = "cut_off"  # the first answer reached max_tokens
    BAD_FORM = "bad_form"  # it is not one think block and one answer block
    LOW_QUALITY = "low_quality"  # below the judge's threshold
    NO_REFLECTION = "no_reflection"  # the teacher has none to give
    LEAK = "leak"  # the reflection states the answer
    BAD_EXAMPLE = "bad_example"  # the parts do not make a completion of the wanted form
    UNGRADABLE_GOLD = "ungradable_gold"  # stage 2's reward would call the ground truth itself wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A line of a journal."""

    id: str  # the question's


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAnswer(Record):
    """What the answerer said, beside what it was asked."""

    question: str  # with its "<image>" marks
    image_files: list[str | None]  # absolute; None: the image came as bytes or was drawn
    gold: str
    text: str
    is_finished: bool  # False: cut at the token limit
    is_right: bool
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(Record):
    quality: int  # 1 to 5
    comment: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection(Record):
    text: str  # what goes between the reflection tags
    reasoning: str | None  # the improved way to the answer; None where it was not asked for
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection(Record):
    step: str  # a Step
    reason: str
    detail: str  # one line
    is_final: bool = True  # False: every start decides anew, as it follows from results, or a server was in trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What judge and teacher are shown."""

    question: Question
    answer: FirstAnswer  # of the right form

    @property
    def think(self) -> str:
        return parse(self.answer.text).first_think or ""

    @property
    def first(self) -> str:
        """What its answer block holds."""
        return parse(self.answer.text).first_answer or ""


def asked(question: Question) -> dict[str, Any]:
    """The fields of a FirstAnswer that come from its question."""
    files = question.image_files or (None,) * len(question.images)
    return {
        "id": question.id,
        "question": question.text,
        "image_files": [None if file is None else str(file) for file in files],
        "gold": question.answer,
    }

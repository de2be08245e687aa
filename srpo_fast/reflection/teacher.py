"""Who writes the reflections."""

from dataclasses import dataclass
from typing import Protocol

from srpo_fast.batch import Question


class Reflection(Protocol):
    @property
    def text(self) -> str: ...  # what goes between the reflection tags

    @property
    def second(self) -> str: ...  # the refined solution, tags included


class Teacher(Protocol):
    def reflect(self, question: Question, first: str) -> Reflection | None:
        """The reflection on a first solution, written knowing the ground truth; None: the teacher has none to give."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectionRecord:
    """One SFT example: first solution, reflection, second solution."""

    question: Question
    first: str
    reflection: str
    second: str
    first_correct: bool

    @property
    def completion(self) -> str:
        return f"{self.first}<reflection>{self.reflection}</reflection>{self.second}"

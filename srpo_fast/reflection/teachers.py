"""Who reflects on first answers, the ground truth in hand: a model that talks, or a program."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from srpo_fast.batch import Question
from srpo_fast.chat.model import ChatModel, ChatRequest
from srpo_fast.reflection.asking import improvement_request, reflection_request
from srpo_fast.reflection.interview import interview
from srpo_fast.reflection.records import Case, Reason, Reflection, Rejection, Step


class Teacher(Protocol):
    @property
    def model(self) -> ChatModel | None: ...  # the model behind it, if there is one

    def reflections(self, cases: Iterable[Case | Rejection]) -> Iterator[Reflection | Rejection]:
        """One result a case, as they come; `cases` is read as results are taken."""
        ...


class ProgramReflection(Protocol):
    @property
    def text(self) -> str: ...  # what goes between the reflection tags

    @property
    def reasoning(self) -> str: ...  # the improved way to the answer


class ProgramTeacher:
    """A function from a question and a first solution to a reflection; None: it has none to give."""

    model = None

    def __init__(self, reflect: Callable[[Question, str], ProgramReflection | None]) -> None:
        self._reflect = reflect

    def reflections(self, cases: Iterable[Case | Rejection]) -> Iterator[Reflection | Rejection]:
        for case in cases:
            yield case if isinstance(case, Rejection) else self._reflection(case)

    def _reflection(self, case: Case) -> Reflection | Rejection:
        made = self._reflect(case.question, case.answer.text)
        if made is None:
            detail = "the first answer is not of the form the teacher knows"
            return Rejection(id=case.question.id, step=Step.REFLECT, reason=Reason.NO_REFLECTION, detail=detail)
        return Reflection(
            id=case.question.id, text=made.text, reasoning=made.reasoning, prompt_tokens=0, completion_tokens=0
        )


class ModelTeacher:
    """A model that is asked for a reflection, and for improved reasoning where the example has two think blocks."""

    def __init__(self, model: ChatModel, *, with_reasoning: bool) -> None:
        self.model = model
        self._with_reasoning = with_reasoning

    def reflections(self, cases: Iterable[Case | Rejection]) -> Iterator[Reflection | Rejection]:
        for result in interview(self.model, cases, self._request, Step.REFLECT):
            if isinstance(result, Rejection):
                yield result
                continue
            case, reply = result
            assert reply.fields is not None, f"{reply=}"
            yield Reflection(
                id=case.question.id,
                text=reply.fields["reflection"].strip(),
                reasoning=reply.fields["improved_reasoning"].strip() if self._with_reasoning else None,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
            )

    def _request(self, case: Case) -> ChatRequest:
        ask = improvement_request if self._with_reasoning else reflection_request
        return ask(case.question, think=case.think, answer=case.first)

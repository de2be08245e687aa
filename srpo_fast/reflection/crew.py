"""Who answers, judges and reflects in stage 1: models that are asked, or a program. Each gives a result a question."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from srpo_fast.batch import Question
from srpo_fast.chat.model import ChatFailure, ChatModel, ChatReply, ChatRequest
from srpo_fast.chat.replies import one_line
from srpo_fast.reflection.asking import first_answer_request, improvement_request, reflection_request, verdict_request
from srpo_fast.reflection.gold import GoldCheck
from srpo_fast.reflection.records import (
    Case,
    FirstAnswer,
    Judgement,
    Reason,
    Record,
    Reflection,
    Rejection,
    Step,
    asked,
)
from srpo_fast.responses import parse

if TYPE_CHECKING:
    from srpo_fast.embedded.teacher import Reflection as Lesson

Item = TypeVar("Item", Question, Case)
Result = TypeVar("Result", bound=Record, covariant=True)


@dataclass(frozen=True, slots=True)
class Interviewer(Generic[Item, Result]):
    """Asks a model about many things, and keeps apart what came of each."""

    model: ChatModel
    step: Step
    request: Callable[[Item], ChatRequest]  # what is asked about an item; its key is the question's id
    result: Callable[[Item, ChatReply], Result]

    def results(self, items: Iterable[Item | Rejection]) -> Iterator[Result | Rejection]:
        """What came of every item, or the Rejection that ends it, as they come; `items` is read as they are taken."""
        under_way: dict[str, Item] = {}
        unusable: list[Rejection] = []

        def requests() -> Iterator[ChatRequest]:
            for item in items:
                if isinstance(item, Rejection):
                    unusable.append(item)
                    continue
                asked = self.request(item)
                under_way[asked.key] = item
                yield asked

        for said in self.model.ask(requests()):
            item = under_way.pop(said.key)
            yield self._rejection(said) if isinstance(said, ChatFailure) else self.result(item, said)
        yield from unusable

    def _rejection(self, failure: ChatFailure) -> Rejection:
        is_final = not failure.reason.may_pass
        return Rejection(
            id=failure.key, step=self.step, reason=failure.reason, detail=failure.detail, is_final=is_final
        )


class Teacher(Protocol):
    @property
    def model(self) -> ChatModel | None: ...  # the model behind it, if there is one

    def results(self, items: Iterable[Case | Rejection]) -> Iterator[Reflection | Rejection]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Who does what."""

    answerer: Interviewer[Question, FirstAnswer] | None  # None: the policy
    judge: Interviewer[Case, Judgement] | None  # None: every first solution is good enough
    teacher: Teacher

    @property
    def models(self) -> dict[str, ChatModel]:
        """Those that are asked over a network or sampled here, by the step they are for."""
        workers = {"first answers": self.answerer, "judgements": self.judge, "reflections": self.teacher}
        return {step: worker.model for step, worker in workers.items() if worker and worker.model}


def endpoint_answerer(model: ChatModel, system_prompt: str, check: GoldCheck) -> Interviewer[Question, FirstAnswer]:
    """A model behind a server in the policy's place."""

    def request(question: Question) -> ChatRequest:
        return first_answer_request(question, system_prompt)

    def answer(question: Question, reply: ChatReply) -> FirstAnswer:
        block = parse(reply.text).first_answer
        return FirstAnswer(
            **asked(question),
            text=reply.text,
            is_finished=reply.is_finished,
            is_right=block is not None and check.is_right(block, question.text, question.answer),
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )

    return Interviewer(model, Step.ANSWER, request, answer)


def judge(model: ChatModel) -> Interviewer[Case, Judgement]:
    """Grades the reasoning of first answers, right or wrong."""

    def judgement(case: Case, reply: ChatReply) -> Judgement:
        assert reply.fields is not None, f"{reply=}"
        return Judgement(
            id=case.question.id,
            quality=int(reply.fields["score"]),  # to a JSON schema, 3.0 is an integer too
            comment=reply.fields["reason"],
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )

    return Interviewer(model, Step.JUDGE, _about_attempt(verdict_request), judgement)


def check_quality(judgement: Judgement, threshold: int) -> Rejection | None:
    """Why the answer is not worth a reflection; None when it is."""
    if judgement.quality >= threshold:
        return None
    detail = one_line(f"quality {judgement.quality} of 5, wanted {threshold}: {judgement.comment}")
    return Rejection(id=judgement.id, step=Step.JUDGE, reason=Reason.LOW_QUALITY, detail=detail, is_final=False)


def model_teacher(model: ChatModel, *, with_reasoning: bool) -> Interviewer[Case, Reflection]:
    """Reflects on first answers, and improves their reasoning where the example has two think blocks."""

    def reflection(case: Case, reply: ChatReply) -> Reflection:
        assert reply.fields is not None, f"{reply=}"
        return Reflection(
            id=case.question.id,
            text=reply.fields["reflection"].strip(),
            reasoning=reply.fields["improved_reasoning"].strip() if with_reasoning else None,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )

    request = _about_attempt(improvement_request if with_reasoning else reflection_request)
    return Interviewer(model, Step.REFLECT, request, reflection)


def _about_attempt(request: Callable[..., ChatRequest]) -> Callable[[Case], ChatRequest]:
    return lambda case: request(case.question, think=case.think, answer=case.first)


class ProgramTeacher:
    """A function from a question and a first solution to a reflection; None: it has none to give."""

    model = None

    def __init__(self, reflect: Callable[[Question, str], "Lesson | None"]) -> None:
        self._reflect = reflect

    def results(self, items: Iterable[Case | Rejection]) -> Iterator[Reflection | Rejection]:
        for case in items:
            yield case if isinstance(case, Rejection) else self._reflection(case)

    def _reflection(self, case: Case) -> Reflection | Rejection:
        made = self._reflect(case.question, case.answer.text)
        if made is None:
            detail = "the first answer is not of the form the teacher knows"
            return Rejection(id=case.question.id, step=Step.REFLECT, reason=Reason.NO_REFLECTION, detail=detail)
        return Reflection(
            id=case.question.id, text=made.text, reasoning=made.reasoning, prompt_tokens=0, completion_tokens=0
        )

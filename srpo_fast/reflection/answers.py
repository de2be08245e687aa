"""First answers: of the policy in this process (policy_answers.py), or of a model behind a server."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from srpo_fast.batch import Question
from srpo_fast.chat.model import ChatModel, ChatRequest
from srpo_fast.reflection.asking import first_answer_request
from srpo_fast.reflection.gold import GoldCheck
from srpo_fast.reflection.interview import interview
from srpo_fast.reflection.records import FirstAnswer, Rejection, Step
from srpo_fast.responses import parse

Advance = Callable[[int], object]  # told how many more questions are done


class Answerer(Protocol):
    def answers(self, questions: Iterable[Question | Rejection], advance: Advance) -> Iterator[FirstAnswer | Rejection]:
        """One result a question; `questions` is read as results are taken."""
        ...


class EndpointAnswerer:
    """A model behind a server in the policy's place; only one rank asks it."""

    def __init__(self, model: ChatModel, system_prompt: str, check: GoldCheck) -> None:
        self.model = model
        self._system_prompt = system_prompt
        self._check = check

    def answers(self, questions: Iterable[Question | Rejection], advance: Advance) -> Iterator[FirstAnswer | Rejection]:
        """One result a question, as they come."""
        for result in interview(self.model, questions, self._request, Step.ANSWER):
            advance(1)
            if isinstance(result, Rejection):
                yield result
                continue
            question, reply = result
            block = parse(reply.text).first_answer
            yield FirstAnswer(
                **asked(question),
                text=reply.text,
                is_finished=reply.is_finished,
                is_right=block is not None and self._check.is_right(block, question.text, question.answer),
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
            )

    def _request(self, question: Question) -> ChatRequest:
        return first_answer_request(question, self._system_prompt)


def asked(question: Question) -> dict[str, Any]:
    """The fields of a FirstAnswer that come from its question."""
    files = question.image_files or (None,) * len(question.images)
    return {
        "id": question.id,
        "question": question.text,
        "image_files": [None if file is None else str(file) for file in files],
        "gold": question.answer,
    }

"""Who says which first answers are worth a reflection: a model that grades the reasoning, right or wrong."""

from collections.abc import Iterable, Iterator

from srpo_fast.chat.model import ChatModel, ChatRequest
from srpo_fast.chat.replies import one_line
from srpo_fast.reflection.asking import verdict_request
from srpo_fast.reflection.interview import interview
from srpo_fast.reflection.records import Case, Judgement, Reason, Rejection, Step


class Judge:
    def __init__(self, model: ChatModel) -> None:
        self.model = model

    def judgements(self, cases: Iterable[Case | Rejection]) -> Iterator[Judgement | Rejection]:
        """One result a case, as they come; `cases` is read as results are taken."""
        for result in interview(self.model, cases, _request, Step.JUDGE):
            if isinstance(result, Rejection):
                yield result
                continue
            case, reply = result
            assert reply.fields is not None, f"{reply=}"
            yield Judgement(
                id=case.question.id,
                quality=int(reply.fields["score"]),  # to a JSON schema, 3.0 is an integer too
                comment=reply.fields["reason"],
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
            )


def check_quality(judgement: Judgement, threshold: int) -> Rejection | None:
    """Why the answer is not worth a reflection; None when it is."""
    if judgement.quality >= threshold:
        return None
    detail = one_line(f"quality {judgement.quality} of 5, wanted {threshold}: {judgement.comment}")
    return Rejection(id=judgement.id, step=Step.JUDGE, reason=Reason.LOW_QUALITY, detail=detail, is_final=False)


def _request(case: Case) -> ChatRequest:
    return verdict_request(case.question, think=case.think, answer=case.first)

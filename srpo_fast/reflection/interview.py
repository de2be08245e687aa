"""Asking a chat model about many questions, and keeping apart what came of each."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from srpo_fast.batch import Question
from srpo_fast.chat.model import ChatFailure, ChatModel, ChatReply, ChatRequest
from srpo_fast.reflection.records import Case, Rejection, Step

Item = TypeVar("Item", Question, Case)


def interview(
    model: ChatModel, items: Iterable[Item | Rejection], request: Callable[[Item], ChatRequest], step: Step
) -> Iterator[tuple[Item, ChatReply] | Rejection]:
    """Every item with its reply, or the Rejection that ends it, as they come; `items` is read as results are taken.

    request: makes what is asked about an item; its key is the question's id.
    """
    under_way: dict[str, Item] = {}
    unusable: list[Rejection] = []

    def requests() -> Iterator[ChatRequest]:
        for item in items:
            if isinstance(item, Rejection):
                unusable.append(item)
                continue
            asked = request(item)
            under_way[asked.key] = item
            yield asked

    for result in model.ask(requests()):
        item = under_way.pop(result.key)
        if isinstance(result, ChatFailure):
            yield Rejection(
                id=result.key, step=step, reason=result.reason, detail=result.detail,
                is_final=not result.reason.may_pass,
            )  # fmt: skip
        else:
            yield item, result
    yield from unusable

"""What rules cannot decide goes to a judge, if there is one: each question once, within a budget, kept on disk."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from srpo_fast.chat.model import ChatFailure, ChatModel, ChatReply, ChatRequest, FailureReason
from srpo_fast.chat.replies import one_line
from srpo_fast.config import EndpointConfig, UserError
from srpo_fast.evaluation.benchmark import Benchmark, JudgeTask, Mark
from srpo_fast.evaluation.directory import JudgeReply
from srpo_fast.evaluation.marked_items import Marked
from srpo_fast.formats.recognise import writable
from srpo_fast.image_marks import without_marks
from srpo_fast.reflection.journal import Journal

UNUSABLE = "; the judge said nothing usable"
_FINAL = (FailureReason.REFUSED, FailureReason.CONTENT_FILTER)  # the rest may pass, or with other settings
_BUDGET, _NOT_ASKED = "beyond the budget", "not asked any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent in one directory, earlier starts included."""

    questions: int | None = None
    dollars: float | None = None  # asking ends when this is spent; what is under way by then is still paid


class Judge:
    """A model, what it has said so far, and what it may still be asked."""

    def __init__(
        self, model: ChatModel, settings: EndpointConfig, journal: Journal[JudgeReply], budget: Budget
    ) -> None:
        self.model, self.name = model, settings.model
        self._journal, self._budget = journal, budget
        self._prices = settings.price_per_million_prompt_tokens, settings.price_per_million_completion_tokens
        self._dollars = sum(self._price(reply.prompt_tokens, reply.completion_tokens) for reply in journal.values())
        self._admitted: set[str] = set()  # of this start, asked now or before
        self.stopped: UserError | None = None  # why asking on is pointless; nothing more is asked then
        self._causes: dict[str, str] = {}  # of questions without a reply, by key
        self._unusable: list[str] = []  # replies that say nothing about the answer

    def request(self, system: str, user: str, schema: dict[str, Any] | None = None) -> ChatRequest:
        text = without_marks(writable(user))
        content = json.dumps([self.name, system, text, schema])
        key = hashlib.sha256(content.encode()).hexdigest()
        return ChatRequest(key=key, system=system, text=text, images=(), schema=schema)

    def replies(self, requests: Sequence[ChatRequest], advance: Callable[[int], object]) -> dict[str, str]:
        """What it says to each, by key; nothing where the budget or the attempts are used up."""
        distinct = {request.key: request for request in requests}
        admitted = self._within_budget(distinct.values())
        known = [request for request in admitted if request.key in self._journal]
        advance(len(distinct) - len(admitted) + len(known))
        self._ask([request for request in admitted if request.key not in self._journal], advance)
        for key in distinct:
            if key not in self._journal:
                self._causes.setdefault(key, _NOT_ASKED if self.stopped and key in self._admitted else _BUDGET)
            elif self._journal[key].text is None:
                self._causes[key] = self._journal[key].detail
        said = ((request.key, self._journal[request.key].text) for request in admitted if request.key in self._journal)
        return {key: text for key, text in said if text is not None}

    def says_nothing(self, reply: str) -> None:
        self._unusable.append(reply)

    def notes(self) -> Iterator[str]:
        """What it left open and why, a line each."""
        if self._causes:
            firsts = {cause.partition(": ")[0]: cause for cause in reversed(self._causes.values())}
            counts = Counter(cause.partition(": ")[0] for cause in self._causes.values())
            told = (f"{count:,} {firsts[name].replace('_', ' ', 1)}" for name, count in counts.most_common())
            again = any(key not in self._journal for key in self._causes)
            yield f"{len(self._causes):,} questions to the judge have no reply ({'; '.join(told)})" + (
                "; the same command asks them again" if again else ""
            )
        if self._unusable:
            yield (
                f"{len(self._unusable):,} of the judge's replies decide nothing, not being in the form asked for; the "
                f"first: {one_line(self._unusable[0])!r:.100}"
            )

    def _ask(self, requests: Sequence[ChatRequest], advance: Callable[[int], object]) -> None:
        if self.stopped:
            return
        try:
            for result in self.model.ask(self._while_paid(iter(requests))):
                advance(1)
                self._take(result)
        except UserError as error:  # what has been said and measured is worth a table, first
            self.stopped = error

    def _take(self, result: ChatReply | ChatFailure) -> None:
        if isinstance(result, ChatReply):
            self._keep(result.key, result.text, "", result.prompt_tokens, result.completion_tokens)
            return
        self._causes[result.key] = cause = f"{result.reason}: {result.detail}"
        if result.reason in _FINAL:
            self._keep(result.key, None, cause, 0, 0)

    def _within_budget(self, requests: Iterable[ChatRequest]) -> list[ChatRequest]:
        """The first so many, known or not: a start after a kill takes the same ones."""
        admitted = []
        for request in requests:
            is_free = self._budget.questions is None or len(self._admitted) < self._budget.questions
            if request.key in self._admitted or is_free:
                self._admitted.add(request.key)
                admitted.append(request)
        return admitted

    def _while_paid(self, requests: Iterator[ChatRequest]) -> Iterator[ChatRequest]:
        limit = self._budget.dollars
        while limit is None or self._dollars < limit:
            if (request := next(requests, None)) is None:
                return
            yield request

    def _price(self, prompt_tokens: int, completion_tokens: int) -> float:
        prompt, completion = self._prices
        return (prompt_tokens * (prompt or 0.0) + completion_tokens * (completion or 0.0)) / 1e6

    def _keep(self, key: str, text: str | None, detail: str, prompt_tokens: int, completion_tokens: int) -> None:
        self._dollars += self._price(prompt_tokens, completion_tokens)
        counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        self._journal.write(JudgeReply(id=key, text=text and writable(text), detail=detail, **counts))


def judge_undecided(
    benchmark: Benchmark, marked: Sequence[Marked], judge: Judge, advance: Callable[[int], object]
) -> list[Marked]:
    """With the judge's marks where rules had none; undecided stays what it was not asked or did not decide."""
    tasks = dict(_tasks(benchmark, marked))
    requests = {key: judge.request(task.system, task.user) for key, task in tasks.items()}
    replies = judge.replies(list(requests.values()), advance)
    marks = {key: task.read(replies[requests[key].key]) for key, task in tasks.items() if requests[key].key in replies}
    for key in marks:
        if marks[key] is None:
            judge.says_nothing(replies[requests[key].key])
    return [_decided(each, marks) for each in marked]


def undecided(benchmark: Benchmark, marked: Iterable[Marked]) -> int:
    """How many answers of different texts only a judge can decide."""
    return len(dict(_tasks(benchmark, marked)))


def _tasks(benchmark: Benchmark, marked: Iterable[Marked]) -> Iterator[tuple[tuple[str, str], JudgeTask]]:
    """By item and answer, in the items' order."""
    if benchmark.judge is None:
        return
    for each in marked:
        if each.solutions is not None:
            for mark, text in ((each.first, each.solutions.first), (each.last, each.solutions.last)):
                if mark.is_right is None:
                    yield (each.item.id, text), benchmark.judge(each.item, text)


def _decided(each: Marked, marks: Mapping[tuple[str, str], Mark | None]) -> Marked:
    if each.solutions is None:
        return each

    def decided(mark: Mark, text: str) -> Mark:
        if mark.is_right is not None or (each.item.id, text) not in marks:
            return mark
        return marks[each.item.id, text] or replace(mark, rule=mark.rule + UNUSABLE)

    return replace(each, first=decided(each.first, each.solutions.first), last=decided(each.last, each.solutions.last))

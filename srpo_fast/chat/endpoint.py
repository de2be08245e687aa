"""A model behind a server that speaks OpenAI's chat-completions protocol: many requests at a time, each to its end.

The caller's thread reads requests and takes results; an event loop in a thread of its own talks to the server.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue

import openai

from srpo_fast.chat.event_loop import event_loop
from srpo_fast.chat.exchange import Exchange, PointlessToAsk
from srpo_fast.chat.model import ChatFailure, ChatReply, ChatRequest, FailureReason, Usage
from srpo_fast.chat.pacing import pause
from srpo_fast.chat.replies import Setback, one_line, read_reply
from srpo_fast.chat.request_body import request_body
from srpo_fast.chat.usage import UsageMeter
from srpo_fast.config import EndpointConfig, UserError

FEWEST_FAILURES_TO_STOP = 8  # in a row, without one message in between

Result = ChatReply | ChatFailure


class Endpoint:
    """The ChatModel of a server. Calls of `ask` may overlap: they share the rate limit, each has its concurrency."""

    def __init__(self, settings: EndpointConfig) -> None:
        """Sends nothing yet. UserError when the key is missing."""
        self._settings = settings
        self._key = _key(settings)
        self._meter = UsageMeter(settings)
        self._exchange = Exchange(settings, self._key, self._meter)
        self._failures_in_a_row = 0

    @property
    def usage(self) -> Usage:
        return self._meter.usage

    def ask(self, requests: Iterable[ChatRequest]) -> Iterator[Result]:
        """One result a request, in the order in which they finish. Closing the iterator stops what is under way.

        `requests` is read in the caller's thread, at most 2 * concurrency ahead of the results taken. UserError when
        asking on is pointless (nobody listens, key or model are refused, nothing but failures); the results that are
        there by then come before it.
        """
        client, slots = self._exchange.new_client(), asyncio.Semaphore(self._settings.concurrency)
        finished: SimpleQueue[Future[Result]] = SimpleQueue()
        under_way: set[Future[Result]] = set()  # an event loop alone does not keep its tasks alive
        with event_loop(client) as loop:
            for request in requests:
                answer = asyncio.run_coroutine_threadsafe(self._answer(request, client, slots), loop)
                under_way.add(answer)
                answer.add_done_callback(finished.put)
                while not finished.empty() or len(under_way) == 2 * self._settings.concurrency:
                    yield from _next_result(finished, under_way)
            while under_way:
                yield from _next_result(finished, under_way)

    async def _answer(self, request: ChatRequest, client: openai.AsyncOpenAI, slots: asyncio.Semaphore) -> Result:
        """Tries until there is a reply, or the retries for what came instead are used up."""
        async with slots:
            body = await asyncio.to_thread(request_body, request, self._settings)
            left = {True: self._settings.retries, False: self._settings.reply_retries}  # by: the server was in trouble
            while isinstance(outcome := await self._try_once(request, body, client), Setback):
                is_trouble = outcome.reason.may_pass
                if outcome.is_final or not left[is_trouble]:
                    return self._failure(request, outcome)
                if is_trouble:
                    await self._back_off(outcome, self._settings.retries - left[True])
                left[is_trouble] -= 1
                self._meter.add(retries=1)
            self._meter.add(replies=1)
            return outcome

    async def _try_once(
        self, request: ChatRequest, body: dict[str, object], client: openai.AsyncOpenAI
    ) -> ChatReply | Setback:
        try:
            completion = await self._exchange.post(client, body)
        except PointlessToAsk as error:
            raise self._user_error(str(error)) from None
        if isinstance(completion, Setback):
            return completion
        self._failures_in_a_row = 0
        self._meter.add(
            prompt_tokens=completion.prompt_tokens, completion_tokens=completion.completion_tokens
        )  # paid for, whatever the message is worth
        return read_reply(request, completion)

    async def _back_off(self, setback: Setback, retry: int) -> None:
        own = pause(retry, self._settings.backoff_s, self._settings.backoff_limit_s)
        await asyncio.sleep(max(own, setback.retry_after_s or 0.0))

    def _failure(self, request: ChatRequest, setback: Setback) -> ChatFailure:
        self._meter.add(failures=1)
        if setback.reason.may_pass or setback.reason is FailureReason.BAD_REQUEST:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= max(FEWEST_FAILURES_TO_STOP, 2 * self._settings.concurrency):
                raise self._user_error(
                    f"{self._failures_in_a_row} requests in a row failed, the last one with {setback.reason}: "
                    f"{setback.detail}; see what ails the server or change the settings, then run again"
                )
        return ChatFailure(key=request.key, reason=setback.reason, detail=one_line(self._redacted(setback.detail)))

    def _user_error(self, what: str) -> UserError:
        where = f"{self._settings.model} at {self._settings.base_url}"
        return UserError(f"{where}: expected replies, got: {one_line(self._redacted(what))}")

    def _redacted(self, text: str) -> str:
        """The text without the key, which servers have been seen to repeat."""
        return text.replace(self._key, "***") if self._key else text


def _next_result(finished: SimpleQueue[Future[Result]], under_way: set[Future[Result]]) -> Iterator[Result]:
    """The next result; if that is an error, the results that are there and then the error."""
    future = finished.get()
    under_way.remove(future)
    if (error := future.exception()) is None:
        yield future.result()
        return
    while not finished.empty():
        other = finished.get()
        if other.exception() is None:
            yield other.result()
    raise error


def _key(settings: EndpointConfig) -> str | None:
    if settings.key_env is None:
        return None
    key = os.environ.get(settings.key_env, "").strip()
    if not key:
        raise UserError(
            f"expected the API key of {settings.base_url} in the environment variable {settings.key_env}, got none; "
            "export it, name another variable in key_env, or set key_env to null for a server that asks for none"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"expected an API key without blanks in {settings.key_env}, got other characters; copy it anew")
    return key

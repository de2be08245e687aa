"""Endpoints that do not wait between tries, and what they are asked."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from srpo_fast.chat import exchange
from srpo_fast.chat.endpoint import Endpoint
from srpo_fast.chat.exchange import Exchange
from srpo_fast.chat.model import ChatRequest
from srpo_fast.chat.replies import Completion, Setback
from srpo_fast.config import EndpointConfig
from srpo_fast.reflection.asking import REFLECTION_SCHEMA
from tests.chat_server import ChatServer
from tests.waiting import PATIENCE_S


def make_request(number: int, text: str = "how many?", **changes: Any) -> ChatRequest:
    request = ChatRequest(
        key=f"k{number}", system="be good", text=f"{text} [{number}]", images=(), schema=REFLECTION_SCHEMA
    )
    return replace(request, **changes)


def make_endpoint(server: ChatServer, **changes: Any) -> Endpoint:
    """An endpoint that pauses for nothing for long, and has patience with a slow machine."""
    settings = {
        "base_url": server.base_url, "model": "teacher", "key_env": None, "timeout_s": PATIENCE_S, "backoff_s": 0.005,
        "backoff_limit_s": 0.02,
    } | changes  # fmt: skip
    return Endpoint(EndpointConfig.model_validate(settings))


def time_out_what_hangs(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit of endpoints made from now on is over for what this server lets hang once it has come there.

    And for nothing else, however slow the machine.
    """
    limits: dict[asyncio.Task[Any] | None, asyncio.Timeout] = {}

    def timeout(seconds: float) -> asyncio.Timeout:
        assert seconds == PATIENCE_S
        return limits.setdefault(asyncio.current_task(), asyncio.timeout(seconds))

    class SureExchange(Exchange):
        async def post(self, client: openai.AsyncOpenAI, body: dict[str, Any]) -> Completion | Setback:
            limits.pop(task := asyncio.current_task(), None)
            if server.next_fault(body) not in ("hang", "trickle"):
                return await super().post(client, body)
            end = asyncio.create_task(is_over(task, body, server.num_came(body)))
            try:
                return await super().post(client, body)
            finally:
                end.cancel()

    async def is_over(task: asyncio.Task[Any] | None, body: dict[str, Any], before: int) -> None:
        while server.num_came(body) == before:
            await asyncio.sleep(0.005)
        limits[task].reschedule(asyncio.get_running_loop().time())

    monkeypatch.setattr(exchange, "asyncio", SimpleNamespace(sleep=asyncio.sleep, timeout=timeout))
    monkeypatch.setattr("srpo_fast.chat.endpoint.Exchange", SureExchange)

"""Endpoints in a hurry, and what they are asked."""

from dataclasses import replace
from typing import Any

from srpo_fast.chat.endpoint import Endpoint
from srpo_fast.chat.model import ChatRequest
from srpo_fast.config import EndpointConfig
from srpo_fast.reflection.asking import REFLECTION_SCHEMA
from tests.chat_server import ChatServer


def make_request(number: int, text: str = "how many?", **changes: Any) -> ChatRequest:
    request = ChatRequest(
        key=f"k{number}", system="be good", text=f"{text} [{number}]", images=(), schema=REFLECTION_SCHEMA
    )
    return replace(request, **changes)


def make_endpoint(server: ChatServer, **changes: Any) -> Endpoint:
    """An endpoint that waits for nothing for long."""
    hurry = {"timeout_s": 5.0, "backoff_s": 0.005, "backoff_limit_s": 0.02}
    settings = {"base_url": server.base_url, "model": "teacher", "key_env": None, **hurry, **changes}
    return Endpoint(EndpointConfig.model_validate(settings))

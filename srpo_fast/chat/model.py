"""What is asked of a model that talks, and what comes back: the same for a server and for an engine in this process."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One message to a model."""

    key: str  # the record it belongs to; unique among the requests of one call
    system: str | None
    text: str  # the user's message with one "<image>" mark for every image, in order
    images: tuple[Image.Image, ...]
    descriptions: tuple[str | None, ...] = ()  # of the images, for a model that does not see them; empty: of none
    schema: dict[str, Any] | None  # the JSON schema that the reply must satisfy; None: free text


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """What the model said."""

    key: str
    text: str  # the message's content
    fields: dict[str, Any] | None  # its JSON, which satisfies the request's schema; None: no schema was asked for
    is_finished: bool  # False: cut at the token limit
    prompt_tokens: int
    completion_tokens: int


class FailureReason(StrEnum):
    """Why a request has no reply."""

    RATE_LIMITED = "rate_limited"  # 429 until the retries were used up
    SERVER_ERROR = "server_error"  # 5xx likewise
    TIMEOUT = "timeout"  # likewise
    CONNECTION = "connection"  # refused, reset, or cut in the middle of a reply
    BAD_REQUEST = "bad_request"  # the server cannot use this request: 400, 413, 422
    BAD_RESPONSE = "bad_response"  # what came is not a chat completion
    EMPTY = "empty"  # a message without text
    TRUNCATED = "truncated"  # cut at the token limit before its JSON was whole
    BAD_JSON = "bad_json"  # a schema was asked for, and the text is no JSON object
    SCHEMA_MISMATCH = "schema_mismatch"  # JSON of another form
    REFUSED = "refused"  # the model declined
    CONTENT_FILTER = "content_filter"  # the server's filter withheld the reply

    @property
    def may_pass(self) -> bool:
        """The server was in trouble, not the request: asked another day, it may well be answered."""
        return self in _OF_THE_SERVER


_OF_THE_SERVER = frozenset(
    {
        *(FailureReason.RATE_LIMITED, FailureReason.SERVER_ERROR, FailureReason.TIMEOUT),
        *(FailureReason.CONNECTION, FailureReason.BAD_RESPONSE),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFailure:
    """A request that came to nothing, after all its retries."""

    key: str
    reason: FailureReason
    detail: str  # one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a model has been used for so far, retries included."""

    requests: int = 0  # sent, first tries and retries
    retries: int = 0
    replies: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = None  # None: prices are not known


class ChatModel(Protocol):
    def ask(self, requests: Iterable[ChatRequest]) -> Iterator[ChatReply | ChatFailure]:
        """Exactly one result a request, in the order in which they finish; `requests` is read as results are taken.

        UserError when nothing can come of asking on. Replies without a schema may be cut at the token limit; those with
        one are whole.
        """
        ...

    @property
    def usage(self) -> Usage: ...

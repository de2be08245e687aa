"""What came back, read: a reply, or why it is none."""

import json
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from pydantic import BaseModel, Field, ValidationError

from srpo_fast.chat.model import ChatReply, ChatRequest, FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """A try that led to nothing."""

    reason: FailureReason
    detail: str  # as it came
    retry_after_s: float | None = None  # the server's wish
    is_final: bool = False  # asking again would not help


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _TokenCounts(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(BaseModel):
    """The part of a chat completion that matters here."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _TokenCounts | None = None  # some servers count nothing

    @property
    def prompt_tokens(self) -> int:
        return self.usage.prompt_tokens if self.usage else 0

    @property
    def completion_tokens(self) -> int:
        return self.usage.completion_tokens if self.usage else 0


def read_completion(body: bytes) -> Completion | Setback:
    """The body of a response with status 200."""
    try:
        return Completion.model_validate_json(body)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        start = body[:80].decode(errors="replace")
        return Setback(reason=FailureReason.BAD_RESPONSE, detail=f"no chat completion ({what}): it begins {start!r}")


def read_reply(request: ChatRequest, completion: Completion) -> ChatReply | Setback:
    """The reply in a completion; a Setback when it is none that the request can use."""
    choice = completion.choices[0]
    text = choice.message.content or ""
    is_finished = choice.finish_reason != "length"
    if choice.message.refusal:
        return Setback(reason=FailureReason.REFUSED, detail=choice.message.refusal)
    if choice.finish_reason == "content_filter":
        return Setback(reason=FailureReason.CONTENT_FILTER, detail="the server's filter withheld the reply")
    if not is_finished and (request.schema is not None or not text.strip()):
        return Setback(
            reason=FailureReason.TRUNCATED, detail=f"cut after {completion.completion_tokens} tokens; raise max_tokens"
        )
    if not text.strip():
        return Setback(reason=FailureReason.EMPTY, detail="a message without text")
    fields = None if request.schema is None else read_fields(text, request.schema)
    if isinstance(fields, Setback):
        return fields
    return ChatReply(
        key=request.key,
        text=text,
        fields=fields,
        is_finished=is_finished,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
    )


def read_fields(text: str, schema: dict[str, Any]) -> dict[str, Any] | Setback:
    """The last JSON object in a text, which models like to wrap in words or fences, if it satisfies the schema."""
    fields = _last_object(text)
    if fields is None:
        return Setback(reason=FailureReason.BAD_JSON, detail=f"no JSON object in {text[-200:]!r}")
    if (error := best_match(Draft202012Validator(schema).iter_errors(fields))) is not None:
        return Setback(reason=FailureReason.SCHEMA_MISMATCH, detail=f"{error.json_path}: {error.message}")
    if not _is_unicode(fields):
        return Setback(reason=FailureReason.BAD_JSON, detail="it holds half a character (a lone surrogate)")
    return fields


def one_line(text: str) -> str:
    """The text without line breaks, cut to a readable length."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}..."


def _last_object(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder()
    found: dict[str, Any] | None = None
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            found, end = decoder.raw_decode(text, start)
        except RecursionError:  # braces in braces, hundreds of them: nothing that was asked for
            return None
        except ValueError:
            pass
        start = text.find("{", end)
    return found


def _is_unicode(fields: dict[str, Any]) -> bool:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True

"""Which format a record has: the field that holds the question tells."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.formats.chats import parse_messages, parse_rl, parse_verl
from srpo_fast.formats.entry import Entry, show
from srpo_fast.formats.pools import parse_conversations, parse_plain, parse_query

PARSERS: dict[str, Callable[[dict[str, Any]], Entry]] = {
    "message": parse_rl,
    "messages": parse_messages,
    "conversations": parse_conversations,
    "query": parse_query,
    "problem": partial(parse_plain, name="problem"),
    "question": partial(parse_plain, name="question"),
}
_VERL = {"prompt", "reward_model"}
# what any parser looks at: other columns of a table are not even read
FIELDS = {*PARSERS, *_VERL, "id", "answer", "standard_answer", "image", "images", "content"}


def as_object(record: Any) -> dict[str, Any]:
    """The record as an object; lines of a file are parsed. Raises BadRecord."""
    if isinstance(record, bytes | str):
        try:
            record = json.loads(record)
        except (ValueError, RecursionError) as error:
            raise BadRecord(
                "unreadable_record", f"expected one JSON object a line, got: {error}; repair the line"
            ) from error
    if not isinstance(record, dict):
        raise BadRecord("unreadable_record", f"expected an object with a question and an answer, got {show(record)}")
    return record


def parse_record(record: dict[str, Any]) -> Entry:
    """The entry of a record of any known format. Raises BadRecord saying what was expected, what came, what to do."""
    found = [name for name in PARSERS if record.get(name) is not None]
    if not found and record.keys() >= _VERL:
        return parse_verl(record)
    if len(found) != 1:
        raise BadRecord(
            "unknown_fields",
            f"expected the question in one field, {', '.join(PARSERS)} or prompt with reward_model, got the fields "
            f"{show_fields(record)}; rename or remove fields",
        )
    return PARSERS[found[0]](record)


def show_fields(record: dict[str, Any]) -> str:
    return writable(", ".join(str(name) for name in record))[:200] or "none"


def writable(text: str) -> str:
    """The text, with halves of characters, which no file can hold, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()

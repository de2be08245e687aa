"""Responses from a file, in any order: JSON lines, a JSON array, or the published scripts' object keyed by id."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srpo_fast.config import UserError
from srpo_fast.formats.recognise import writable

_FIELDS = ("response", "completion")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedResponses:
    by_id: dict[str, str]
    notes: tuple[str, ...]  # what was odd, a line each


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    id: str
    text: str
    place: str


def read_saved(path: Path, ids: Sequence[str]) -> SavedResponses:
    """The responses to `ids`. Raises UserError for what is no response, and for two different ones to an id."""
    found: dict[str, _Entry] = {}
    repeated = 0
    for entry in _entries(path):
        before = found.setdefault(entry.id, entry)
        if before.text != entry.text:
            raise UserError(
                f"{path}: expected one response to each id, got different ones to {entry.id} at {before.place} and at "
                f"{entry.place}; remove one"
            )
        repeated += before is not entry
    if not found:
        raise UserError(f"{path} holds no responses; expected an object with id and response on every line")
    wanted = set(ids)
    unknown = [name for name in found if name not in wanted]
    if len(unknown) == len(found):
        raise UserError(
            f"{path}: none of its {len(found):,} ids is one of the benchmark's, which begin {', '.join(ids[:3])}; got "
            f"{', '.join(unknown[:3])!s:.100}; check --benchmark, --data and --split"
        )
    missing = [name for name in ids if name not in found]
    notes = [
        f"{repeated:,} responses are in {path} twice, word for word" if repeated else "",
        f"{len(unknown):,} responses have ids of none of the {len(ids):,} items, such as {unknown[0]:.80}: ignored"
        if unknown
        else "",
        f"{len(missing):,} of {len(ids):,} items have no response, such as {missing[0]}: counted as wrong"
        if missing
        else "",
    ]
    return SavedResponses(
        by_id={name: found[name].text for name in ids if name in found}, notes=tuple(note for note in notes if note)
    )


def _entries(path: Path) -> Iterator[_Entry]:
    if not path.is_file():
        raise UserError(f"expected a file of responses at {path}, found none; check --responses")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"expected responses in UTF-8 in {path}, got: {error}; repair the file") from error
    match _one_document(text):
        case list(records):
            for number, record in enumerate(records, 1):
                yield _entry(record, f"item {number}", path)
        case dict(record) if not _is_response(record):
            for key, value in record.items():
                value = {"response": value} if isinstance(value, str) else value
                yield _entry(value | {"id": key} if isinstance(value, dict) else value, f"key {key:.80}", path)
        case _:
            # not splitlines(): JSON text may hold Unicode's other line ends as they are
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    yield _entry(_parsed(line, f"{path}, line {number}"), f"line {number}", path)


def _one_document(text: str) -> Any:
    """The array or object that the whole text is; None when it is lines."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_response(record: dict[str, Any]) -> bool:
    """A single line is an object, too."""
    return isinstance(record.get("id"), str | int | float)


def _parsed(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: expected a JSON object, got: {error!s:.200}; repair the line") from error


def _entry(record: Any, place: str, path: Path) -> _Entry:
    if not isinstance(record, dict):
        raise UserError(f"{path}, {place}: expected an object with id and response, got {record!r:.80}")
    name, texts = record.get("id"), [record[field] for field in _FIELDS if record.get(field) is not None]
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UserError(f"{path}, {place}: field id: expected text or a whole number, got {name!r:.80}")
    if len(texts) != 1 or not isinstance(texts[0], str):
        got = repr(texts[0]) if len(texts) == 1 else ", ".join(record) if not texts else "both"
        raise UserError(f"{path}, {place}: expected text in the field response or completion, got {got:.80}")
    return _Entry(id=str(name), text=writable(texts[0]), place=place)

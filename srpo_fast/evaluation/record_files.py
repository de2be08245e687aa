"""The records of a file, each with its place. One that is none is handed on as such: the others are read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.config import UserError
from srpo_fast.formats.recognise import as_object
from srpo_fast.formats.records import TextLines

TABLES, TEXTS = (".parquet", ".arrow"), (".jsonl", ".json")
_ROWS_AT_ONCE = 64

Record = dict[str, Any]


def read_records(file: Path) -> Iterator[tuple[str, Record | BadRecord]]:
    """("row 7", the record, images undecoded); Raises UserError where the file as a whole cannot be read."""
    if file.suffix in TABLES:
        yield from ((f"row {number}", row) for number, row in enumerate(_rows(file), 1))
    elif file.suffix in TEXTS:
        yield from _objects(file)
    else:
        raise UserError(f"expected a {', '.join(TABLES + TEXTS)} file, got {file}; convert or rename it")


def _rows(file: Path) -> Iterator[Record]:
    """The rows of a table, images as their bytes and paths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".parquet":
            batches = pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE)
        else:
            batches = iter(pa.ipc.open_stream(pa.memory_map(str(file))))
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                yield from batch.slice(start, _ROWS_AT_ONCE).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"expected a readable table, got: {' '.join(str(error).split()):.200}; get it anew") from error


def _objects(file: Path) -> Iterator[tuple[str, Record | BadRecord]]:
    """The records of JSON lines, of one array, or of one object whose values they are (`_key` then has the key)."""
    whole = _whole_json(file) if file.suffix == ".json" else None
    match whole:
        case None:
            yield from ((f"line {number}", _record(line)) for number, line in TextLines(file))
        case dict():
            yield from ((f"key {key:.80}", _record(value, _key=key)) for key, value in whole.items())
        case _:
            yield from ((f"item {number}", _record(value)) for number, value in enumerate(whole, 1))


def _record(value: Any, **more: Any) -> Record | BadRecord:
    try:
        return as_object(value) | more
    except BadRecord as error:
        return error


def _whole_json(file: Path) -> list[Any] | dict[str, Any] | None:
    """What one JSON document holds; None when the file has several, one a line."""
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):
            return None
        raise UserError(f"expected JSON in UTF-8, got: {error!s:.200}; repair the file") from error
    if isinstance(document, list | dict):
        return document
    raise UserError(f"expected a JSON array or object, got {document!r:.80}")

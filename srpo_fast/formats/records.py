"""The records of a file or a data set, one after the other and again by their numbers; nothing large is kept.

JSON lines are found by their offsets. Parquet files and data sets on disk go through `datasets`, which maps them into
memory. A JSON array is parsed as a whole, so it should hold paths, not images.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from srpo_fast.config import UserError
from srpo_fast.formats.recognise import FIELDS

_ROWS_AT_ONCE = 64


class Records(Protocol):
    """Iterating gives (number from 1, record); a record is an object or the bytes of one."""

    noun: str  # what one is called: line, item, row
    folder: Path  # where the file is, or the data set

    def __iter__(self) -> Iterator[tuple[int, Any]]: ...

    def record(self, number: int) -> Any:
        """The record of a number that iterating has given before."""
        ...


def open_records(source: Path) -> Records:
    """The records of a .jsonl, .json or .parquet file, or of a folder of parquet files or `datasets.save_to_disk`.

    FOLDER#SPLIT names one of several splits. Raises UserError when there is no such thing or it cannot be read.
    """
    path, split = _split_name(source)
    if path.is_dir() or (path.suffix == ".parquet" and path.is_file()):
        return TableRows(path, split)
    if not path.is_file():
        raise UserError(f"expected a file of questions at {path}, found none; check data.train")
    if path.suffix not in (".json", ".jsonl"):
        raise UserError(
            f"expected a .jsonl, .json or .parquet file or a data set's folder, got {path}; convert or rename it"
        )
    with path.open("rb") as file:
        begin = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return ArrayItems(path) if begin.startswith(b"[") else TextLines(path)


def num_bytes(source: Path) -> int:
    """The size on disk of what open_records opens, all splits of it."""
    path, _ = _split_name(source)
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


class TextLines:
    """JSON lines; blank ones are no records, but count."""

    noun = "line"

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self._file = path.open("rb")
        self._spans: dict[int, tuple[int, int]] = {}  # offset and length of every line seen

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        offset = 0
        # in bytes: JSON text may hold Unicode's other line ends as they are
        for number, line in enumerate(self._file, 1):
            if line.strip():
                self._spans[number] = (offset, len(line))
                yield number, line
            offset += len(line)

    def record(self, number: int) -> bytes:
        offset, length = self._spans[number]
        return os.pread(self._file.fileno(), length, offset)


class ArrayItems:
    """The items of one JSON array."""

    noun = "item"

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        try:
            self._items = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(f"expected JSON in UTF-8 in {path}, got: {error}; repair the file") from error

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return iter(enumerate(self._items, 1))

    def record(self, number: int) -> Any:
        return self._items[number - 1]


class TableRows:
    """The rows of a data set, images as their bytes or paths."""

    noun = "row"

    def __init__(self, path: Path, split: str | None) -> None:
        self.folder = path if path.is_dir() else path.parent
        table = _open_table(path, split)
        known = [name for name in table.column_names if name in FIELDS]
        if not known:
            raise UserError(
                f"expected columns of questions in {path}, such as problem, answer and images, got "
                f"{', '.join(table.column_names)}"
            )
        self._table = table.select_columns(known).with_format("arrow")

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        for rows in self._table.iter(_ROWS_AT_ONCE):
            for row in rows.to_pylist():
                number += 1
                yield number, row

    def record(self, number: int) -> dict[str, Any]:
        return self._table[number - 1 : number].to_pylist()[0]


def _split_name(source: Path) -> tuple[Path, str | None]:
    path, mark, split = str(source).rpartition("#")
    return (Path(path), split) if mark and not source.exists() else (source, None)


def _open_table(path: Path, split: str | None) -> Any:
    """A `datasets.Dataset`, not decoded."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError(
            f"reading {path} needs the package datasets; pip install datasets, or convert it to JSON lines"
        ) from error
    datasets.disable_progress_bars()
    try:
        if path.is_file():
            table: Any = datasets.load_dataset("parquet", data_files=str(path))
        elif (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            table = datasets.load_from_disk(str(path))
        else:
            table = datasets.load_dataset("parquet", data_dir=str(path))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(
            f"expected parquet files or a saved data set at {path}, got: {reason:.300}; download or convert it again"
        ) from error
    if not isinstance(table, dict):
        return table
    if split is None and len(table) == 1:
        return next(iter(table.values()))
    if split not in table:
        raise UserError(
            f"{path} holds the splits {', '.join(table)}; name one of them as {path}#{next(iter(table))}"
            + ("" if split is None else f", got {split}")
        )
    return table[split]

"""What a step has done, on disk: one JSON line a result, written when it comes, so that no kill loses or repeats it."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from srpo_fast.atomic_file import cut_torn_line
from srpo_fast.config import UserError
from srpo_fast.monitor.run_directory import read_jsonl
from srpo_fast.reflection.records import Record

SYNC_INTERVAL_S = 1.0  # what a power failure may cost; a kill costs nothing


R = TypeVar("R", bound=Record)


class Journal(Mapping[str, R]):
    """The results of a step by question id, in the order in which they came; those of earlier processes first."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        cut_torn_line(path)  # that result is asked for again
        self._records: dict[str, R] = {}
        for line in read_jsonl(path):
            record = _record(line, kind, path)
            if record.id in self._records:
                raise UserError(f"{path}: expected every id once, got {record.id} again; delete one of the lines")
            self._records[record.id] = record
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._synced_at = time.monotonic()

    def __getitem__(self, question_id: str) -> R:
        return self._records[question_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def write(self, record: R) -> None:
        """Adds a result; the journal holds none of that id."""
        assert record.id not in self._records, f"{record=}"
        self._records[record.id] = record
        line = json.dumps(asdict(record), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        while line:  # one call, unless the disk is about to be full
            line = line[os.write(self._file, line) :]
        if time.monotonic() - self._synced_at >= SYNC_INTERVAL_S:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._file)
        self._synced_at = time.monotonic()

    def close(self) -> None:
        self.sync()
        os.close(self._file)


def _record(line: dict[str, Any], kind: type[R], path: Path) -> R:
    names = {field.name for field in fields(kind)}
    if not isinstance(line, dict) or line.keys() != names:
        raise UserError(
            f"{path}: expected lines with {', '.join(sorted(names))}, got {line!r:.100}; another release may have "
            "written them: choose another directory"
        )
    return kind(**line)

"""The session's one file: a JSON document a line, written as soon as there is something to write."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_NAME = "session.jsonl"
ENDS = ("done", "failed", "skipped")  # the values of "state": how a section ended

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Journal:
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / FILE_NAME

    def write(self, section: str, row: Row) -> None:
        with self.path.open("a") as file:  # opened anew: a child and its parent write in turns
            file.write("\n" + json.dumps({"section": section, **row}))

    def rows(self) -> Iterator[Row]:
        """All but what a process that was ended has left half written."""
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def states(self) -> dict[str, Row]:
        """How each section ended last."""
        return {row["section"]: row for row in self.rows() if row.get("state") in ENDS}

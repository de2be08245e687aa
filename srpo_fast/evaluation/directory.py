"""The directory of an evaluation: what a model and a judge have said, kept as it comes, and the results.

responses.jsonl: a line an item that was asked     judge.jsonl: a line a question to the judge
settings.json: what the responses depend on        results.json, table.md: replaced in one rename
One process writes at a time. Marks are not kept: they follow from the rest.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srpo_fast.config import UserError
from srpo_fast.formats.recognise import writable
from srpo_fast.monitor.run_directory import write_atomically
from srpo_fast.reflection.journal import Journal
from srpo_fast.reflection.records import Record
from srpo_fast.writer_lock import WriterLock

RESULTS, RESPONSES = "results.json", "responses.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said(Record):
    """What the model said to an item."""

    text: str
    is_finished: bool  # False: cut at the token limit
    prompt_tokens: int
    completion_tokens: int
    asked: str = ""  # the item's digest: what this is the response to


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReply(Record):
    """What the judge said; its id is a digest of model and question."""

    text: str | None  # None: the question came to nothing, and would again
    detail: str  # why; "" with a reply
    prompt_tokens: int
    completion_tokens: int


class EvaluationDirectory:
    """Open for writing, by this process alone, until close()."""

    def __init__(self, root: Path, determined_by: Mapping[str, Any] | None) -> None:
        """determined_by: what the model's responses depend on; None: they come from a file, and none are kept.

        UserError if another process has the directory, or if its responses came of other settings.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{root} cannot be made ({error.strerror}); choose another --out") from error
        self.root = root
        with ExitStack() as undo:
            self._lock = WriterLock(root / "lock")
            undo.callback(self._lock.release)
            if determined_by is not None:
                _require_same(root, json.loads(json.dumps(determined_by)))
            self.said = Journal(root / RESPONSES, Said) if determined_by is not None else None
            self.judged = Journal(root / "judge.jsonl", JudgeReply)
            undo.pop_all()

    def require_same_items(self, digests: Mapping[str, str]) -> None:
        """UserError if an item with a response has another digest than when it was asked."""
        assert self.said is not None
        changed = [name for name, digest in digests.items() if name in self.said and self.said[name].asked != digest]
        if changed:
            raise UserError(
                f"{self.root / RESPONSES} holds responses to other data: {len(changed):,} of {len(digests):,} items "
                f"have changed since (question, answer, options or image), the first is {changed[0]:.80}; take the "
                "data back, choose another --out, or delete the file"
            )

    def write(self, results: Mapping[str, Any], table: str) -> None:
        document = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(self.root / RESULTS, writable(document) + "\n")
        write_atomically(self.root / "table.md", writable(table))

    def close(self) -> None:
        if self.said is not None:
            self.said.close()
        self.judged.close()
        self._lock.release()


def read_results(root: Path) -> dict[str, Any]:
    """What an evaluation left in its directory. Raises UserError if there is nothing, or not of this form."""
    path = root / RESULTS
    if not path.is_file():
        raise UserError(f"expected a directory of `srpo eval` with {RESULTS}, found none in {root}")
    try:
        results = json.loads(path.read_bytes())
        if {"benchmark", "items", "totals", "settings", "paper"} <= results.keys():
            return results
    except (ValueError, AttributeError) as error:
        raise UserError(f"expected the results of `srpo eval` in {path}, got: {error!s:.200}") from error
    raise UserError(f"expected the results of `srpo eval` in {path}, got other fields; run it again")


def _require_same(root: Path, asked: dict[str, Any]) -> None:
    path, journal = root / "settings.json", root / RESPONSES
    held = json.loads(path.read_bytes()) if path.exists() else asked
    changed = [key for key in asked | held if asked.get(key) != held.get(key)]
    if changed and journal.exists() and journal.stat().st_size:
        told = (
            "other files of the model"
            if key == "weights"
            else f"{key}={held.get(key)!r:.80}, now {key}={asked.get(key)!r:.80}"
            for key in changed
        )
        raise UserError(
            f"{journal} holds responses of other settings: {'; '.join(told)}; take them back, choose another --out, "
            f"or delete {journal}"
        )
    write_atomically(path, json.dumps(asked, indent=1, ensure_ascii=False) + "\n")

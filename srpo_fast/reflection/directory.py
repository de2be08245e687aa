"""The directory of stage 1: its journals, the settings they were made with, its results. One process writes at a time.

answers.jsonl, judgements.jsonl, reflections.jsonl: what came of a step, a line a question
rejected.jsonl: every question that got no further, with step and reason
sft.json, sft_images/, statistics.json: the result, replaced in one rename
"""

import json
from collections.abc import Container, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from srpo_fast.config import UserError
from srpo_fast.monitor.run_directory import read_jsonl, write_atomically
from srpo_fast.reflection.journal import Journal
from srpo_fast.reflection.records import FirstAnswer, Judgement, Record, Reflection, Rejection, Step
from srpo_fast.writer_lock import WriterLock

Settings = Mapping[str, Mapping[str, Any]]  # file -> what determines its results

ANSWERS, JUDGEMENTS, REFLECTIONS, REJECTED = (
    "answers.jsonl", "judgements.jsonl", "reflections.jsonl", "rejected.jsonl",
)  # fmt: skip
SETTINGS = "settings.json"
_STEPS = {ANSWERS: (Step.POOL, Step.ANSWER), JUDGEMENTS: (Step.JUDGE,), REFLECTIONS: (Step.REFLECT,)}


class ReflectionDirectory:
    """Open for writing, by this process alone, until close()."""

    def __init__(self, root: Path, settings: Settings) -> None:
        """Opens or makes `root`. UserError if another process has it, or if its results came of other settings."""
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        with ExitStack() as undo:
            lock = WriterLock(root / "lock")
            undo.callback(lock.release)
            changed = _changed_files(root, settings)
            _forget(root / REJECTED, {step for name in changed for step in _STEPS[name]})
            _note_settings(root, settings)
            self.answers = Journal(root / ANSWERS, FirstAnswer)
            self.judgements = Journal(root / JUDGEMENTS, Judgement)
            self.reflections = Journal(root / REFLECTIONS, Reflection)
            self.rejected = Journal(root / REJECTED, Rejection)
            self._lock = lock
            undo.pop_all()

    @property
    def sft_file(self) -> Path:
        return self.root / "sft.json"

    def keep(self, result: Record) -> None:
        """Writes a result down at once. A question is rejected for one reason, the first."""
        match result:
            case FirstAnswer():
                self.answers.write(result)
            case Judgement():
                self.judgements.write(result)
            case Reflection():
                self.reflections.write(result)
            case Rejection() if result.id not in self.rejected:
                self.rejected.write(result)

    def write_statistics(self, statistics: Mapping[str, Any]) -> None:
        write_atomically(self.root / "statistics.json", json.dumps(statistics, indent=2, allow_nan=False) + "\n")

    def close(self) -> None:
        for journal in (self.answers, self.judgements, self.reflections, self.rejected):
            journal.close()
        self._lock.release()


def _changed_files(root: Path, settings: Settings) -> list[str]:
    """The files without results so far for which `settings` differ from before; UserError where one has results."""
    held, found = _held_settings(root), []
    for name, asked in _as_json(settings).items():
        before, now = _flat(held.get(name, asked)), _flat(asked)
        changed = [key for key in before | now if before.get(key) != now.get(key)]
        if changed and (root / name).exists() and (root / name).stat().st_size:
            was, is_now = ({key: which.get(key) for key in changed} for which in (before, now))
            raise UserError(
                f"{root / name} holds results of other settings: {_show(was)}, now {_show(is_now)}; take them "
                f"back, choose another directory, or delete {root if name == ANSWERS else root / name}"
            )
        if changed:
            found.append(name)
    return found


def _note_settings(root: Path, settings: Settings) -> None:
    held, asked = _held_settings(root), _as_json(settings)
    if held | asked != held:
        write_atomically(root / SETTINGS, json.dumps(held | asked, indent=2, ensure_ascii=False) + "\n")


def _held_settings(root: Path) -> dict[str, Any]:
    path = root / SETTINGS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _as_json(settings: Settings) -> dict[str, Any]:
    return json.loads(json.dumps(settings))


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """With a key of its own for every value of an inner section, so that an error names just what differs."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _show(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r:.80}" for key, value in values.items())


def _forget(path: Path, steps: Container[str]) -> None:
    """Leaves only rejections that are final, and none of `steps`: what other settings failed in may go well now."""
    lines = read_jsonl(path)
    kept = [line for line in lines if line.get("is_final", True) and line.get("step") not in steps]
    if len(kept) < len(lines):
        write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))

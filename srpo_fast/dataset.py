"""Questions from files, and the order in which the steps meet them.

Read are the published RL files (`message`: a chat as JSON text), plain records (`question`, `problem` or `query`;
`image` or `images`) as JSON lines or one JSON array, and parquet files of the latter with the images inside.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from srpo_fast.batch import Question
from srpo_fast.config import UserError
from srpo_fast.image_marks import IMAGE_MARK
from srpo_fast.images import ImageError, ImageSource, check_image, image_file, load_image, resize_once

MAX_PROBLEMS = 20  # reported before reading stops
_TEXT_FIELDS = ("question", "problem", "query")
_IMAGE_FIELDS = ("image", "images")
_FIELDS = {"id", "message", "answer", *_TEXT_FIELDS, *_IMAGE_FIELDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A question whose images are not yet decoded."""

    id: str
    text: str
    images: tuple[ImageSource, ...]
    answer: str


class QuestionFile(Sequence[Question]):
    """The questions of a file; their images are decoded and resized when a question is asked for, and not kept."""

    def __init__(self, path: Path, entries: list[_Entry], image_root: Path, budget: dict[str, int]) -> None:
        self.path = path
        self._entries = entries
        self._image_root = image_root
        self._budget = budget

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def ids(self) -> list[str]:
        """The questions' ids, without looking at an image."""
        return [entry.id for entry in self._entries]

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> "QuestionFile": ...
    def __getitem__(self, index: int | slice) -> "Question | QuestionFile":
        """A question, or a slice of the file. Raises ImageError when an image's body, not its header, is damaged."""
        if isinstance(index, slice):
            return QuestionFile(self.path, self._entries[index], self._image_root, self._budget)
        entry = self._entries[index]
        try:
            images = tuple(resize_once(load_image(source, self._image_root), **self._budget) for source in entry.images)
        except ImageError as error:
            raise ImageError(f"{self.path}, question {entry.id}: {error}") from error
        files = tuple(image_file(source, self._image_root) for source in entry.images)
        return Question(id=entry.id, text=entry.text, images=images, answer=entry.answer, image_files=files)


def read_questions(path: Path, image_root: Path | None, *, min_pixels: int, max_pixels: int) -> QuestionFile:
    """The questions of a .jsonl, .json or .parquet file, every record and every image's header checked.

    image_root: where relative image paths start; None: the file's folder.
    Raises ValueError naming place, field, expectation and remedy of the first MAX_PROBLEMS problems.
    """
    root = path.parent if image_root is None else image_root
    entries: list[_Entry] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for place, number, record in _records(path):
        try:
            entry = _entry(record, f"{path.stem}-{number}", root)
            if seen.setdefault(entry.id, number) != number:
                raise UserError(
                    f"field id: {entry.id} is also that of {place} {seen[entry.id]}, but random numbers hang on it; "
                    "make ids unique or leave them out"
                )
            entries.append(entry)
        except ValueError as error:
            problems.append(f"{place} {number}: {error}")
            if len(problems) == MAX_PROBLEMS:
                problems.append(f"reading stopped after {MAX_PROBLEMS} problems")
                break
    if problems:
        raise UserError(f"{path} has records that cannot be used:\n  " + "\n  ".join(problems))
    if not entries:
        raise UserError(f"{path} holds no questions; expected at least one record")
    return QuestionFile(path, entries, root, {"min_pixels": min_pixels, "max_pixels": max_pixels})


class PromptSampler:
    """Indices of questions for every step: epoch after epoch, each a permutation, no index twice in a step.

    All follows from the arguments and the number of steps taken, the state: resuming repeats and skips nothing.
    """

    def __init__(self, num_questions: int, prompts_per_step: int, seed: int) -> None:
        if prompts_per_step > num_questions:
            raise UserError(
                f"expected at least as many questions as prompts in a step, got {num_questions} questions for "
                f"{prompts_per_step} prompts; lower data.prompts_per_step or add questions"
            )
        self._arguments = {"num_questions": num_questions, "prompts_per_step": prompts_per_step, "seed": seed}
        self._restart()

    def next(self) -> list[int]:
        """The indices of the next step, prompts_per_step of them."""
        size = self._arguments["prompts_per_step"]
        self._steps += 1
        indices, self._left = self._left[:size], self._left[size:]
        if len(indices) < size:
            missing = size - len(indices)
            order = self._next_epoch(set(indices))
            indices, self._left = indices + order[:missing], order[missing:]
        return indices

    def state_dict(self) -> dict[str, int]:
        return {**self._arguments, "steps": self._steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state` was taken. Raises ValueError if that sampler had other arguments."""
        for name, mine in self._arguments.items():
            if state[name] != mine:
                raise UserError(
                    f"the checkpoint's sampler has {name} {state[name]}, this run {mine}; resume with the data and "
                    "settings of the checkpoint, or start a new run"
                )
        self._restart()
        for _ in range(state["steps"]):
            self.next()

    def _restart(self) -> None:
        self._random = np.random.default_rng(self._arguments["seed"])
        self._left: list[int] = []  # of the current epoch
        self._steps = 0

    def _next_epoch(self, in_step: set[int]) -> list[int]:
        """A new permutation in which what the step already has from the last epoch comes at the end."""
        order: list[int] = self._random.permutation(self._arguments["num_questions"]).tolist()
        return [i for i in order if i not in in_step] + [i for i in order if i in in_step]


def _records(path: Path) -> Iterator[tuple[str, int, Any]]:
    """(what a record is called, its number from 1, the record: an object or the text of one)."""
    if not path.is_file():
        raise UserError(f"expected a file of questions at {path}, found none; check data.train")
    if path.suffix == ".parquet":
        yield from (("row", number, row) for number, row in enumerate(_parquet_rows(path), 1))
        return
    if path.suffix not in (".json", ".jsonl"):
        raise UserError(f"expected a .jsonl, .json or .parquet file of questions, got {path}; convert or rename it")
    try:
        text = path.read_text(encoding="utf-8-sig")
        items = json.loads(text) if text.lstrip().startswith("[") else None
    except ValueError as error:
        raise UserError(f"expected JSON in UTF-8 in {path}, got: {error}; repair the file") from error
    if items is not None:
        yield from (("item", number, item) for number, item in enumerate(items, 1))
        return
    # not splitlines(): JSON text may hold Unicode's other line ends as they are
    yield from (("line", number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise UserError(
            f"reading {path} needs pyarrow, which is not installed; pip install pyarrow, or convert it to JSON lines"
        ) from error
    try:
        file = parquet.ParquetFile(path)
    except ValueError as error:
        raise UserError(f"expected a parquet file, got {path}: {error}; download or convert it again") from error
    for rows in file.iter_batches(columns=[name for name in file.schema_arrow.names if name in _FIELDS]):
        yield from rows.to_pylist()


def _entry(record: Any, default_id: str, root: Path) -> _Entry:
    """Raises ValueError naming the field, what was expected, what came and what to do."""
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except ValueError as error:
            raise UserError(f"expected one JSON object a line, got: {error}; repair the line") from error
    if not isinstance(record, dict):
        raise UserError(f"expected an object with a question and an answer, got {_show(record)}")
    text, images = _from_chat(record["message"]) if "message" in record else _from_fields(record)
    if text.count(IMAGE_MARK) != len(images):
        raise UserError(
            f"expected one {IMAGE_MARK} mark for each of the {len(images)} images, got {text.count(IMAGE_MARK)} marks; "
            "put them where the images belong"
        )
    for source in images:
        check_image(source, root)
    given_id = record.get("id")
    return _Entry(
        id=default_id if given_id is None else str(given_id), text=text, images=images, answer=_answer(record)
    )


def _answer(record: dict[str, Any]) -> str:
    answer = record.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return str(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise UserError(f"field answer: expected text or a number, got {_show(answer)}; give the ground truth")
    return answer


def _from_chat(message: Any) -> tuple[str, tuple[ImageSource, ...]]:
    """Text with marks, and images, of a chat of one user message, given as JSON text or as a list."""
    try:
        chat = json.loads(message) if isinstance(message, str) else message
    except ValueError as error:
        raise UserError(f"field message: expected a chat as JSON text, got: {error}; repair it") from error
    if not isinstance(chat, list) or [m.get("role") if isinstance(m, dict) else None for m in chat] != ["user"]:
        raise UserError(
            f"field message: expected a list of one user message, got {_show(chat)}; "
            "the system prompt is the config's, answers of the assistant do not belong here"
        )
    content = chat[0].get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise UserError(f"field message: expected content of text and image parts, got {_show(content)}")
    texts: list[str] = []
    images: list[ImageSource] = []
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image", "image": str(image)}:
                texts.append(IMAGE_MARK)
                images.append(image)
            case _:
                raise UserError(f"field message: expected text parts and image parts with a path, got {_show(part)}")
    return "".join(texts), tuple(images)


def _from_fields(record: dict[str, Any]) -> tuple[str, tuple[ImageSource, ...]]:
    """Text with marks, and images, of a plain record; images without marks go before the text."""
    fields = [name for name in _TEXT_FIELDS if name in record]
    if len(fields) != 1:
        raise UserError(
            f"expected the question in one field, message, {', '.join(_TEXT_FIELDS)}, got the fields "
            f"{', '.join(map(str, record)) or 'none'}; rename or remove fields"
        )
    text = record[fields[0]]
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"field {fields[0]}: expected text, got {_show(text)}")
    images = tuple(_image(value) for value in _image_values(record))
    return (text if IMAGE_MARK in text else IMAGE_MARK * len(images) + text), images


def _image_values(record: dict[str, Any]) -> list[Any]:
    values = [record[name] for name in _IMAGE_FIELDS if record.get(name) is not None]
    if len(values) > 1:
        raise UserError("fields image and images: expected one of them, got both; keep one")
    if not values:
        return []
    return values[0] if isinstance(values[0], list) else [values[0]]


def _image(value: Any) -> ImageSource:
    match value:
        case str() | bytes():
            return value
        case {"bytes": bytes(data)}:
            return data
        case {"path": str(path)}:
            return path
    raise UserError(f"field images: expected paths or files' bytes, got {_show(value)}; give one for each image")


def _show(value: Any) -> str:
    """A bad value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."

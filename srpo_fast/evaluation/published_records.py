r"""The fields of published records: what is missing is said, and pictures stay undecoded.

Parquet files hold pictures as {"bytes": .., "path": ..}, JSON lines as paths. Lists may be written as Python
lists in one text.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from PIL import Image

from srpo_fast.bad_record import BadRecord
from srpo_fast.image_marks import IMAGE_MARK, without_marks
from srpo_fast.images import ImageSource

_NUMBERED_MARK = re.compile(r"<image[ _]?(\d+)>")


def text_of(record: Mapping[str, Any], field: str) -> str:
    """A text or number, as text. Raises BadRecord if it is missing or nothing of the kind."""
    value = record.get(field)
    if isinstance(value, str | int | float):
        return str(value)
    raise BadRecord("unreadable_record", f"expected a text in the field {field!r}, got {_shown(record, field)}")


def texts_of(record: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """The texts of a list; () of a missing one. Raises BadRecord if it is something else."""
    value = record.get(field)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = _written_list(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadRecord("unreadable_record", f"expected a list in the field {field!r}, got {_shown(record, field)}")
    if not all(isinstance(item, str | int | float) for item in value):
        raise BadRecord("unreadable_record", f"expected texts in the field {field!r}, got {_shown(record, field)}")
    return tuple(str(item) for item in value)


def options_of(record: Mapping[str, Any], field: str, answer: str) -> tuple[str, ...]:
    """The options of a multiple-choice question. Raises BadRecord if there are none or the answer is none's letter."""
    options = texts_of(record, field)
    if answer not in ascii_uppercase[: len(options)] or len(answer) != 1:
        raise BadRecord("bad_answer", f"expected the letter of one of {len(options)} options, got {answer!r:.80}")
    return options


def image_of(record: Mapping[str, Any], *fields: str) -> ImageSource:
    """The picture in the first of the fields that has one. Raises BadRecord if none has."""
    for field in fields:
        if (source := _source(record.get(field))) is not None:
            return source
    raise BadRecord("image_missing", f"expected a picture in the field {fields[0]!r}, got {_shown(record, fields[0])}")


def with_images(text: str, image: Callable[[int], ImageSource]) -> tuple[str, tuple[ImageSource, ...]]:
    """The text in which every <image 1>, or <image_1>, is the mark "<image>", and for each mark its picture, in order.

    A picture that is mentioned twice is shown twice; one that is never mentioned is not shown.
    """
    numbers = [int(number) for number in _NUMBERED_MARK.findall(text)]
    marked = _NUMBERED_MARK.sub(IMAGE_MARK, without_marks(text))
    return marked, tuple(image(number) for number in numbers)


def _source(value: Any) -> ImageSource | None:
    if isinstance(value, Mapping):
        return value.get("bytes") or _source(value.get("path"))
    if isinstance(value, bytes | Path | Image.Image):
        return value
    return value or None if isinstance(value, str) else None


def _written_list(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _shown(record: Mapping[str, Any], field: str) -> str:
    return f"{record[field]!r:.80}" if field in record else f"only {', '.join(map(str, record))}"

"""Questions as files that other programs read: the published RL lines, and the parquet of verl and EasyR1."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from srpo_fast.atomic_file import replacing
from srpo_fast.formats.entry import Entry
from srpo_fast.image_marks import IMAGE_MARK
from srpo_fast.images import ImageSource, image_bytes

_ROWS_AT_ONCE = 64


def write_rl_lines(path: Path, entries: Iterable[tuple[str, Entry]], image_root: Path) -> None:
    """Replaces `path` by a line for every (id, entry). Image paths become absolute, images in memory data: URLs."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for name, entry in entries:
            content = _parts(entry, image_root)
            message = json.dumps([{"role": "user", "content": content}], ensure_ascii=False)
            line = {"id": name, "message": message, "answer": entry.answer}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_parquet(path: Path, entries: Iterable[tuple[str, Entry]], image_root: Path) -> None:
    """Replaces `path` by a row for every (id, entry): id, problem, answer, and images as the bytes of their files.

    Raises ImageError for an image that is missing.
    """
    import datasets
    import pyarrow
    from pyarrow import parquet

    features = datasets.Features(
        {name: datasets.Value("string") for name in ("id", "problem", "answer")}
        | {"images": datasets.List(datasets.Image())}
    )
    schema = features.arrow_schema  # with the features as metadata: `datasets` decodes the images
    with replacing(path) as partial, parquet.ParquetWriter(partial, schema) as writer:
        rows: list[dict[str, Any]] = []
        for name, entry in entries:
            images = [{"bytes": image_bytes(source, image_root), "path": None} for source in entry.images]
            rows.append({"id": name, "problem": entry.text, "answer": entry.answer, "images": images})
            if len(rows) == _ROWS_AT_ONCE:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _parts(entry: Entry, image_root: Path) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = []
    for i, text in enumerate(entry.text.split(IMAGE_MARK)):
        parts += [{"type": "image", "image": _address(entry.images[i - 1], image_root)}] if i else []
        parts += [{"type": "text", "text": text}] if text else []
    return parts


def _address(source: ImageSource, image_root: Path) -> str:
    if isinstance(source, bytes | Image.Image):
        data = base64.b64encode(image_bytes(source, image_root)).decode()
        return f"data:application/octet-stream;base64,{data}"
    text = str(source)
    return text if text.startswith(("data:", "file://")) else str((image_root / text).absolute())

"""What tells an item from another of its id: the question, its answer and options, and its images, undecoded."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from srpo_fast.evaluation.benchmark import Item
from srpo_fast.images import ImageSource, image_file


def digest_of(item: Item, image_root: Path) -> str:
    """16 hexadecimal digits. Of an image in a file they see name and size, so that data can be moved."""
    images = [_identity(image, image_root) for image in item.images]
    return _digest(json.dumps([item.id, item.prompt, item.gold, item.options, images]).encode())


def digest_of_all(digests: Iterable[str]) -> str:
    return _digest("".join(digests).encode())


def _identity(image: ImageSource, root: Path) -> str:
    if isinstance(image, bytes):
        return _digest(image)
    if isinstance(image, Image.Image):
        return f"{image.mode} {image.size} {_digest(image.tobytes())}"
    file = image_file(image, root)
    if file is None:  # the image itself, as text
        return _digest(str(image).encode())
    return f"{file.name} {file.stat().st_size if file.is_file() else 'missing'}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

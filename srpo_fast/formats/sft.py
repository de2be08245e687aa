"""The published SFT file: a JSON array of conversations, `messages` (role, content) and `images` (paths).

LLaMA-Factory reads the same file as "sharegpt" with messages; the tags are role, content, system, user and assistant.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from srpo_fast.atomic_file import replacing
from srpo_fast.config import UserError
from srpo_fast.image_marks import IMAGE_MARK, without_marks
from srpo_fast.images import ImageSource, image_bytes

_ROLES = (["user", "assistant"], ["system", "user", "assistant"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SftExample:
    """One conversation of one turn."""

    id: str  # the item's own, else file name and number; of one prompt only
    system: str | None
    text: str  # the user's message, an "<image>" mark for every image
    images: tuple[ImageSource, ...]  # read: paths as they are written in the file
    assistant: str


def read_sft(path: Path) -> list[SftExample]:
    """The examples of a JSON array, in order. Raises UserError naming the first item that cannot be used."""
    if not path.is_file():
        raise UserError(f"expected an SFT file at {path}, found none")
    try:
        items = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected a JSON array in UTF-8 in {path}, got: {error}; repair the file") from error
    if not isinstance(items, list) or not items:
        raise UserError(f"expected a JSON array of conversations in {path}, got {items!r:.80}")
    examples = [
        _example(item, f"{path.stem}-{number}", f"{path}, item {number}") for number, item in enumerate(items, 1)
    ]
    return _with_ids_of_one_prompt(examples)


def _with_ids_of_one_prompt(examples: list[SftExample]) -> list[SftExample]:
    """An id that another prompt has gets its number added: what is computed of a prompt is kept under its id."""
    prompts: dict[str, tuple[Any, ...]] = {}
    named = []
    for number, example in enumerate(examples, 1):
        prompt = (example.system, example.text, example.images)
        is_taken = prompts.setdefault(example.id, prompt) != prompt
        named.append(replace(example, id=f"{example.id}#{number}") if is_taken else example)
    return named


def write_sft(path: Path, examples: Iterable[SftExample]) -> None:
    """Replaces `path` by the examples. Images that are no paths are saved as files beside it, and these are named.

    Raises UserError when an example has more or fewer marks than images.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a reply cut off may end in half a character, which no file can hold
    with replacing(path) as partial, partial.open("w", encoding="utf-8", errors="replace") as file:
        separator = "["
        for example in examples:
            file.write(f"{separator}\n{json.dumps(_item(example, path), ensure_ascii=False)}")
            separator = ","
        file.write("[]\n" if separator == "[" else "\n]\n")


def _example(item: Any, default_id: str, place: str) -> SftExample:
    messages = item.get("messages") if isinstance(item, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise UserError(f"{place}: expected an object with a list of messages, got {item!r:.80}")
    roles = [message.get("role") for message in messages]
    contents = [message.get("content") for message in messages]
    if roles not in _ROLES or not all(isinstance(content, str) for content in contents):
        raise UserError(
            f"{place}: field messages: expected texts of user and assistant, perhaps after system, got the roles "
            f"{roles!r:.80}; conversations of several turns have to be split"
        )
    images = item.get("images") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise UserError(f"{place}: field images: expected a list of paths, got {images!r:.80}")
    *system, text, assistant = contents
    _require_marks(text, len(images), place)
    own_id = item.get("id")
    return SftExample(
        id=default_id if own_id is None else str(own_id),
        system=system[0] if system else None,
        text=text,
        images=tuple(images),
        assistant=assistant,
    )


def _item(example: SftExample, path: Path) -> dict[str, Any]:
    """What a reader that counts marks over all messages finds right, too."""
    _require_marks(example.text, len(example.images), f"{path}, example {example.id}")
    messages = [] if example.system is None else [{"role": "system", "content": without_marks(example.system)}]
    messages += [
        {"role": "user", "content": example.text},
        {"role": "assistant", "content": without_marks(example.assistant)},
    ]
    return {"id": example.id, "messages": messages, "images": [_path(image, path) for image in example.images]}


def _path(image: ImageSource, sft_file: Path) -> str:
    """The path to write for an image; one in memory becomes a file named by its content."""
    if isinstance(image, Path | str):
        return str(image)
    data = image_bytes(image, sft_file.parent)
    file = Path(f"{sft_file.stem}_images") / hashlib.sha256(data).hexdigest()[:32]
    target = sft_file.parent / file
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with replacing(target) as partial:
            partial.write_bytes(data)
    return str(file)


def _require_marks(text: str, num_images: int, place: str) -> None:
    if text.count(IMAGE_MARK) != num_images:
        raise UserError(
            f"{place}: expected one {IMAGE_MARK} mark of the user for each of the {num_images} images, got "
            f"{text.count(IMAGE_MARK)} marks; put them where the images belong"
        )

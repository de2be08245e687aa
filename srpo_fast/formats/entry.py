"""The neutral form of a record: a question whose images are not yet decoded, and the fields it is made of."""

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from srpo_fast.bad_record import BadRecord
from srpo_fast.image_marks import IMAGE_MARK
from srpo_fast.images import ImageSource

_CAPTION = re.compile(r"<CAPTION>(.*?)</CAPTION>", re.DOTALL)
_MULBERRY = re.compile(r"### Image Description:(.*?)###", re.DOTALL)
_SHORT = reprlib.Repr()  # nor deep: a value may be nested to the limit of recursion
_SHORT.maxstring = _SHORT.maxother = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    text: str  # one mark for every image
    images: tuple[ImageSource, ...]
    answer: str  # the ground truth
    description: str | None = None  # of its one image, where the source has a rationale that begins with it


def make_entry(text: str, images: tuple[ImageSource, ...], answer: str, rationale: str = "") -> Entry:
    """An entry whose marks and images match; images without any mark go before the text.

    Raises BadRecord for other numbers of marks: a mark too many may be a lost image as well as a word. And for texts
    that no file can hold: JSON can spell halves of characters.
    """
    description = description_in(rationale) if len(images) == 1 else None
    for written in (text, answer, description or "", *(image for image in images if isinstance(image, str))):
        try:
            written.encode()
        except UnicodeEncodeError as error:
            raise BadRecord("unreadable_record", f"expected text in Unicode, got {show(written)}: {error}") from error
    marks = text.count(IMAGE_MARK)
    if marks == 0:
        text = IMAGE_MARK * len(images) + text
    elif marks != len(images):
        raise BadRecord(
            "image_marks",
            f"expected one {IMAGE_MARK} mark for each of the {len(images)} images, got {marks} marks; "
            "put them where the images belong",
        )
    if not text.replace(IMAGE_MARK, "").strip():
        raise BadRecord("bad_question", f"expected a question, got no words beside {len(images)} images")
    return Entry(text=text, images=images, answer=answer, description=description)


def description_in(rationale: str) -> str | None:
    """What the rationale of a LLaVA-CoT or Mulberry record says about its image; None: nothing."""
    found = _CAPTION.search(rationale) or _MULBERRY.search(rationale)
    return found[1].strip() or None if found else None


def text_field(record: Mapping[str, Any], name: str) -> str:
    """A text that is not empty."""
    text = record.get(name)
    if not isinstance(text, str) or not text.strip():
        raise BadRecord("bad_question", f"field {name}: expected text, got {show(text)}")
    return text


def answer_field(record: Mapping[str, Any], name: str = "answer") -> str:
    """The ground truth, numbers as text."""
    answer = record.get(name)
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return str(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise BadRecord(
            "bad_answer", f"field {name}: expected text or a number, got {show(answer)}; give the ground truth"
        )
    return answer


def image_fields(record: Mapping[str, Any]) -> tuple[ImageSource, ...]:
    """The images of field `image` or `images`: one or a list of paths, URLs of data, bytes, or data set cells."""
    values = [record[name] for name in ("image", "images") if record.get(name) is not None]
    if len(values) > 1:
        raise BadRecord("unknown_fields", "fields image and images: expected one of them, got both; keep one")
    if not values:
        return ()
    return tuple(_image(value) for value in (values[0] if isinstance(values[0], list | tuple) else [values[0]]))


def _image(value: Any) -> ImageSource:
    match value:
        case str() | bytes() | Image.Image():
            return value
        case {"bytes": bytes(data)}:
            return data
        case {"path": str(path)} | {"url": str(path)}:
            return path
    raise BadRecord(
        "image_missing",
        f"field images: expected paths or files' bytes, got {show(value)}; give one for each image",
    )


def show(value: Any) -> str:
    """A bad value, short enough for a message, whatever it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."

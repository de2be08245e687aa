"""What images show, in words, for a teacher who cannot see them: a file of {"image", "description"}, or a rationale."""

import re
from pathlib import Path

from srpo_fast.bad_record import BadRecord
from srpo_fast.config import UserError
from srpo_fast.formats.recognise import as_object, show_fields
from srpo_fast.formats.records import open_records

_CAPTION = re.compile(r"<CAPTION>(.*?)</CAPTION>", re.DOTALL)
_MULBERRY = re.compile(r"### Image Description:(.*?)###", re.DOTALL)


def read_descriptions(path: Path) -> dict[str, str]:
    """Descriptions by image, as the file writes it. Raises UserError naming the first record that is none."""
    records = open_records(path)
    descriptions: dict[str, str] = {}
    for number, raw in records:
        place = f"{path}, {records.noun} {number}"
        try:
            record = as_object(raw)
        except BadRecord as error:
            raise UserError(f"{place}: {error}") from error
        match record:
            case {"image": str(image), "description": str(description)}:
                descriptions[image] = description
            case _:
                raise UserError(f"{place}: expected texts in image and description, got {show_fields(record)}")
    return descriptions


def description_in(content: str) -> str | None:
    """What the rationale of a LLaVA-CoT or Mulberry record says about its image; None: nothing."""
    found = _CAPTION.search(content) or _MULBERRY.search(content)
    return found[1].strip() or None if found else None

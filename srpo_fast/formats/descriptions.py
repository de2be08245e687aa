"""What images show, in words: a file of {"image", "description"}, for models that do not see images."""

from pathlib import Path

from srpo_fast.bad_record import BadRecord
from srpo_fast.config import UserError
from srpo_fast.formats.recognise import as_object, show_fields
from srpo_fast.formats.records import open_records
from srpo_fast.images import image_file


def read_descriptions(path: Path, image_root: Path) -> dict[Path, str]:
    """Descriptions by absolute path of the image. Raises UserError naming the first record that is none."""
    records = open_records(path)
    descriptions: dict[Path, str] = {}
    for number, raw in records:
        place = f"{path}, {records.noun} {number}"
        try:
            record = as_object(raw)
        except BadRecord as error:
            raise UserError(f"{place}: {error}") from error
        match record:
            case {"image": str(image), "description": str(description)} if file := image_file(image, image_root):
                descriptions[file] = description
            case _:
                raise UserError(
                    f"{place}: expected a path in image and a text in description, got {show_fields(record)}"
                )
    return descriptions

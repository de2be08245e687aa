"""The questions of a file, in any of the published formats (formats/), with the images they show."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from srpo_fast.bad_record import BadRecord, Problem
from srpo_fast.batch import Question
from srpo_fast.config import UserError
from srpo_fast.formats.entry import Entry
from srpo_fast.formats.recognise import as_object, parse_record, writable
from srpo_fast.formats.records import Records, open_records
from srpo_fast.image_marks import require_few_images
from srpo_fast.images import check_image, image_file, load_image, resize_once


@dataclass(frozen=True, slots=True)
class _Slot:
    number: int  # of the record
    id: str


class QuestionFile(Sequence[Question]):
    """The usable questions of a file. A question is read, and its images decoded, when it is asked for; none is kept.

    problems: the records that cannot be used, as far as reading shows. num_records: usable or not, of the whole file.
    """

    def __init__(
        self, path: Path, records: Records, slots: list[_Slot], problems: tuple[Problem, ...], num_records: int,
        image_root: Path, budget: dict[str, int],
    ) -> None:  # fmt: skip
        self.path, self.problems, self.num_records = path, problems, num_records
        self._records, self._slots, self._image_root, self._budget = records, slots, image_root, budget

    def __len__(self) -> int:
        return len(self._slots)

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
            return QuestionFile(
                self.path, self._records, self._slots[index], self.problems, self.num_records, self._image_root,
                self._budget,
            )  # fmt: skip
        slot = self._slots[index]
        entry = parse_record(as_object(self._records.record(slot.number)))
        images = tuple(resize_once(load_image(source, self._image_root), **self._budget) for source in entry.images)
        files = tuple(image_file(source, self._image_root) for source in entry.images)
        return Question(
            id=slot.id, text=entry.text, images=images, answer=entry.answer, image_files=files,
            descriptions=(entry.description,) if entry.description else (),
        )  # fmt: skip

    def id(self, index: int) -> str:
        return self._slots[index].id

    def place(self, index: int) -> str:
        """Where a question stands in the file: "line 7"."""
        return f"{self._records.noun} {self._slots[index].number}"

    def entry(self, index: int) -> Entry:
        """A question as it is in the file, its images not decoded."""
        return parse_record(as_object(self._records.record(self._slots[index].number)))

    @property
    def image_root(self) -> Path:
        return self._image_root

    @property
    def repeated_ids(self) -> int:
        """How many questions had an id that was taken, and got their number added to it."""
        return sum(slot.id.endswith(f"#{slot.number}") for slot in self._slots)

    @property
    def fingerprint(self) -> str:
        """Equal where the same questions were found usable, under the same names."""
        names = json.dumps([[slot.number, slot.id] for slot in self._slots])
        return hashlib.sha256(names.encode()).hexdigest()


def read_questions(path: Path, image_root: Path | None, *, min_pixels: int, max_pixels: int) -> QuestionFile:
    """The questions of a file or data set (formats.records), every record parsed and every image's header checked.

    image_root: where relative image paths start; None: the file's folder.
    Records that cannot be used become its `problems`. Raises UserError when the whole cannot be read, or is empty.
    """
    records = open_records(path)
    root = records.folder if image_root is None else image_root
    slots: list[_Slot] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, raw in records:
        name = f"{path.stem}-{number}"
        try:
            record = as_object(raw)
            name = name if record.get("id") is None else writable(str(record["id"]))
            entry = parse_record(record)
            require_few_images(len(entry.images), "")
            for source in entry.images:
                check_image(source, root)
        except BadRecord as error:
            place = f"{records.noun} {number}"
            problems.append(Problem(id=name, place=place, reason=error.reason, message=str(error)))
            continue
        if name in seen:
            name = f"{name}#{number}"  # random numbers hang on ids, so no two may be equal
        seen.add(name)
        slots.append(_Slot(number, name))
    num_records = len(slots) + len(problems)
    if not num_records:
        raise UserError(f"{path} holds no questions; expected at least one record")
    budget = {"min_pixels": min_pixels, "max_pixels": max_pixels}
    return QuestionFile(path, records, slots, tuple(problems), num_records, root, budget)

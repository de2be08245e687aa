"""The questions of a file, in any of the published formats (formats/), with the images they show."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from srpo_fast.bad_record import BadRecord, Problem
from srpo_fast.batch import Question
from srpo_fast.config import UserError
from srpo_fast.formats.entry import Entry
from srpo_fast.formats.recognise import as_object, parse_record, writable
from srpo_fast.formats.records import Records, open_records
from srpo_fast.image_marks import require_few_images
from srpo_fast.images import check_image, image_file, load_image, qwen_size, resize_once


@dataclass(frozen=True, slots=True)
class _Slot:
    number: int  # of the record
    id: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuestionFile(Sequence[Question]):
    """The usable questions of a file, each read, and its images decoded, whenever it is asked for; none is kept."""

    path: Path
    records: Records
    slots: list[_Slot]
    problems: tuple[Problem, ...]  # the records that cannot be used, as far as reading shows
    num_records: int  # usable or not, of the whole file
    image_root: Path
    budget: dict[str, int]  # min_pixels and max_pixels of an image

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def ids(self) -> list[str]:
        """The questions' ids, without looking at an image."""
        return [slot.id for slot in self.slots]

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> "QuestionFile": ...
    def __getitem__(self, index: int | slice) -> "Question | QuestionFile":
        """A question, or a slice of the file. Raises ImageError when an image's body, not its header, is damaged."""
        if isinstance(index, slice):
            return replace(self, slots=self.slots[index])
        entry = self.entry(index)
        images = tuple(resize_once(load_image(source, self.image_root), **self.budget) for source in entry.images)
        files = tuple(image_file(source, self.image_root) for source in entry.images)
        return Question(
            id=self.id(index), text=entry.text, images=images, answer=entry.answer, image_files=files,
            descriptions=(entry.description,) if entry.description else (),
        )  # fmt: skip

    def id(self, index: int) -> str:
        return self.slots[index].id

    def place(self, index: int) -> str:
        """Where a question stands in the file: "line 7"."""
        return f"{self.records.noun} {self.slots[index].number}"

    def entry(self, index: int) -> Entry:
        """A question as it is in the file, its images not decoded."""
        return parse_record(as_object(self.records.record(self.slots[index].number)))

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that a question's image of a stored size has."""
        return qwen_size(size, **self.budget)

    @property
    def repeated_ids(self) -> int:
        """How many questions had an id that was taken, and got their number added to it."""
        return sum(slot.id.endswith(f"#{slot.number}") for slot in self.slots)

    @property
    def fingerprint(self) -> str:
        """Equal where the same questions were found usable, under the same names."""
        names = json.dumps([[slot.number, slot.id] for slot in self.slots])
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
            problems.append(error.at(name, f"{records.noun} {number}"))
            continue
        if name in seen:
            name = f"{name}#{number}"  # random numbers hang on ids, so no two may be equal
        seen.add(name)
        slots.append(_Slot(number, name))
    num_records = len(slots) + len(problems)
    if not num_records:
        raise UserError(f"{path} holds no questions; expected at least one record")
    return QuestionFile(
        path=path, records=records, slots=slots, problems=tuple(problems), num_records=num_records, image_root=root,
        budget={"min_pixels": min_pixels, "max_pixels": max_pixels},
    )  # fmt: skip

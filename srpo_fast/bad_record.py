"""What is wrong with a record or a question, as a code to count by and a sentence to act on."""

from dataclasses import dataclass
from typing import Literal

from srpo_fast.config import UserError

Reason = Literal[
    "unreadable_record", "unknown_fields", "bad_question", "bad_answer", "image_marks",
    "image_missing", "image_unreadable", "image_empty", "image_aspect", "image_frames", "image_depth",
    "image_too_large", "image_url", "image_size", "too_many_images", "prompt_too_long",
]  # fmt: skip


class BadRecord(UserError):
    """A record or a question that cannot be used, while its neighbours can."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason

    def at(self, name: str, place: str) -> "Problem":
        """What it is for the one question of that id and place."""
        return Problem(id=name, place=place, reason=self.reason, message=str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question left out."""

    id: str
    place: str  # "line 7", "row 7", "item 7"; of a question without a file: its id
    reason: Reason
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"

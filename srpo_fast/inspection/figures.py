"""What a data file is made of: answers, images, lengths, repetitions."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from srpo_fast.bad_record import BadRecord
from srpo_fast.dataset import QuestionFile
from srpo_fast.image_marks import IMAGE_MARK
from srpo_fast.images import ImageSource, check_image, image_bytes, image_file

AnswerKind = Literal["number", "letter", "LaTeX", "text"]
ANSWER_KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)

# from a question's id, text and the sizes of its images as the policy sees them
LengthOf = Callable[[str, str, Sequence[tuple[int, int]]], int]

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?\s*%?")
_BOXED = re.compile(r"\$?\\boxed\{(.*)\}\$?|\$(.*)\$", re.DOTALL)
_LETTER = re.compile(r"\(?[A-Za-z]\)?\.?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    num_records: int
    num_questions: int  # usable
    answers: dict[AnswerKind, int]
    images: dict[int, int]  # questions by how many images they have
    sizes: tuple[tuple[int, int], ...]  # (width, height) of every image, as stored
    lengths: tuple[int, ...]  # of every prompt that has one
    num_unmeasured: int  # prompts with an image of a size that the model's processor would change
    repeated_ids: int  # questions whose id an earlier one has
    repeated_questions: int  # questions whose text and images an earlier one has


def measure(questions: QuestionFile, length_of: LengthOf) -> Figures:
    """The figures of the usable questions; images are not decoded, their sizes are those of the headers."""
    answers: Counter[AnswerKind] = Counter()
    images: Counter[int] = Counter()
    sizes: list[tuple[int, int]] = []
    lengths: list[int] = []
    num_unmeasured = 0
    contents: set[bytes] = set()
    for index in range(len(questions)):
        entry = questions.entry(index)
        own_sizes = [check_image(source, questions.image_root) for source in entry.images]
        answers[answer_kind(entry.answer)] += 1
        images[len(own_sizes)] += 1
        sizes += own_sizes
        try:
            lengths.append(length_of(questions.id(index), entry.text, [*map(questions.resized, own_sizes)]))
        except BadRecord:
            num_unmeasured += 1
        contents.add(_content(entry.text, entry.images, questions.image_root))
    return Figures(
        num_records=questions.num_records,
        num_questions=len(questions),
        answers={kind: answers[kind] for kind in ANSWER_KINDS},
        images=dict(sorted(images.items())),
        sizes=tuple(sizes),
        lengths=tuple(lengths),
        num_unmeasured=num_unmeasured,
        repeated_ids=questions.repeated_ids,
        repeated_questions=len(questions) - len(contents),
    )


def answer_kind(answer: str) -> AnswerKind:
    """By its form, a box or dollars around it aside; a letter is a choice, or a name."""
    bare = answer.strip()
    while boxed := _BOXED.fullmatch(bare):
        bare = (boxed[1] if boxed[1] is not None else boxed[2]).strip()
    if any(character.isdigit() for character in bare) and _NUMBER.fullmatch(bare):
        return "number"
    if _LETTER.fullmatch(bare):
        return "letter"
    return "LaTeX" if "\\" in bare or "^" in bare or bare != answer.strip() else "text"


def num_words(name: str, text: str, sizes: Sequence[tuple[int, int]]) -> int:
    """The length without a tokenizer: words between white space."""
    return len(text.replace(IMAGE_MARK, " ").split())


def _content(text: str, images: Sequence[ImageSource], root: Path) -> bytes:
    """Equal for equal texts and images; files are told apart by their paths."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    for source in images:
        file = image_file(source, root)
        data = image_bytes(source, root) if file is None else str(file).encode()
        digest.update(hashlib.sha256(data).digest())
    return digest.digest()

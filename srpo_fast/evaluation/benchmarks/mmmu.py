r"""MMMU: college subjects from thirty fields, pictures among the words, mostly multiple choice.

Rules: the authors' eval_utils.py (github MMMU-Benchmark/MMMU, eval), which lmms-eval repeats.
- Multiple choice: the option named last, in parentheses if any is, else by a letter standing alone, else by its text.
- Open: on every line the shortest rest after a word like "is", "so" or "answer" (on the last also "="), and every
  number in these; right if a text among them contains the gold, or a number is the gold's, both rounded to two
  decimals. Some golds are lists of alternatives.

Where we leave it: an answer that says what it is, in a box or after "the answer is", is read there first, and an open
one with a box nowhere else. A line that ends with a colon goes on with the next. Where no option is named the authors
take one at random; we count it as wrong.

Questions are asked with the options as "A. ..", each <image 1> in its place. The test split's answers are not
published.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, Mark
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.evaluation.option_answers import (
    chosen_option,
    last_named_option,
    lettered,
    mark_of_choice,
    option_lines,
    read_option,
)  # fmt: skip
from srpo_fast.evaluation.published_records import image_of, options_of, text_of, texts_of, with_images
from srpo_fast.grading import Gold, Tolerance, Verdict
from srpo_fast.grading.grader import Grader
from srpo_fast.responses import boxed

DISCIPLINES = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine", "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Psychology", "Sociology"),
    "Tech and Engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power",
        "Materials", "Mechanical_Engineering",
    ),
}  # fmt: skip
SUBJECTS = {subject: discipline for discipline, subjects in DISCIPLINES.items() for subject in subjects}

_ID = re.compile(r"[a-z]+_(?P<subject>[A-Za-z_]+?)_\d+")
_ROUNDED = Tolerance(decimals=2)
_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_COLON = re.compile(r":[*_ ]*\n\s*")
_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_NUMBER = re.compile(
    r"-?\b\d{1,3}(?:,\d{3})+\b|-?\d+(?:\.\d+)?[eE][+-]?\d+|-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"
)


# --- items ---


def _items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    """Ids begin with their split: a file of several holds what is asked for among others."""
    prefixes = tuple(f"{other}_" for other in ("dev", "validation", "test") if other != split)
    return (_item(record) for record in records if not text_of(record, "id").startswith(prefixes))


def _item(record: Mapping[str, Any]) -> Item:
    name = text_of(record, "id")
    found = _ID.fullmatch(name)
    if found is None or found["subject"] not in SUBJECTS:
        raise BadRecord("unreadable_record", f"expected an id like validation_Accounting_1, got {name!r:.80}")
    if record.get("answer") == "?":
        raise BadRecord("bad_answer", f"{name}: its answer is not published; use the validation or dev split")
    has_options = text_of(record, "question_type") == "multiple-choice"
    options = options_of(record, "options", text_of(record, "answer").strip()) if has_options else ()
    prompt, images = with_images(_prompt(record, options), lambda number: image_of(record, f"image_{number}"))
    accepted = (text_of(record, "answer").strip(),) if options else _alternatives(record)
    return Item(
        id=name,
        prompt=prompt,
        images=images,
        gold=accepted[:1],
        options=options,
        answer_type=text_of(record, "question_type"),
        tags={
            "discipline": (SUBJECTS[found["subject"]],),
            "subject": (found["subject"],),
            "difficulty": tuple(filter(None, [record.get("topic_difficulty")])),
        },
        details={"accepted": accepted},
    )


def _alternatives(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Of an open question: the answer, or each of a list of answers that all count."""
    answer = record.get("answer")
    is_list = not isinstance(answer, str | int | float) or str(answer).startswith("[")
    return (texts_of(record, "answer") if is_list else ()) or (text_of(record, "answer"),)


def _prompt(record: Mapping[str, Any], options: Sequence[str]) -> str:
    question = text_of(record, "question")
    if options:
        return f"{question}\n{option_lines(options, '{}. {}')}\n\nGive the letter of the right option."
    return f"{question}\n\nAnswer with a single word, number or phrase."


# --- answers ---


def _mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    return marks_of(answers, grader, _read)


def _read(item: Item, text: str) -> Mark | Pending:
    return _read_choice(item, text) if item.options else _read_open(item, text)


def _read_choice(item: Item, text: str) -> Mark | Pending:
    options = lettered(item.options)
    choice = chosen_option(text, options) or last_named_option(text, options)
    return mark_of_choice(item, choice) if choice else read_option(item, text, if_open=False)


def _read_open(item: Item, text: str) -> Mark | Pending:
    accepted = item.details["accepted"]
    box = boxed(text)
    said = key_parts(box or text)
    if any(holds(said, gold) for gold in accepted):
        return Mark(is_right=True, extracted=said[-1], rule="open answer")
    if not box:
        return Mark(is_right=False, extracted=said[-1], rule="open answer")

    def settle(verdicts: Sequence[Verdict]) -> Mark:
        return Mark(is_right=Verdict.RIGHT in verdicts, extracted=box, rule="open answer, value of the box")

    return Pending(tuple((box, Gold(text=gold, tolerance=_ROUNDED)) for gold in accepted), settle)


def key_parts(text: str) -> tuple[str, ...]:
    """Of every line the shortest end that follows an indicator, in small letters; all of the text if none has any."""
    lines = _COLON.sub(": ", text).strip().strip(".").lower().split("\n")
    parts = []
    for line in lines:
        indicators = (*_INDICATORS, "=") if line is lines[-1] else _INDICATORS
        ends = [line.rpartition(indicator)[2].strip() for indicator in indicators if indicator in line]
        parts += sorted((end for end in ends if end and end not in ":,.!?;'"), key=len)[:1]
    return tuple(parts) or ("\n".join(lines),)


def holds(parts: Sequence[str], gold: str) -> bool:
    """Whether one of the parts has the gold's number in it, or the words of a gold that is no number."""
    number = _number(gold)
    if number is not None:
        found = (_number(text) for part in parts for text in (part, *_NUMBER.findall(part)))
        return number in found
    words = gold.strip().lower()
    if len(words) == 1:  # not as a part of a word
        return any(part == words or f" {words}" in part or f"{words} " in part for part in parts)
    return any(words in part for part in parts)


def _number(text: str) -> float | None:
    """The number that a text is, to two decimals; None if it is none."""
    plain = text.strip().replace(",", "")
    return round(float(plain), 2) if _FLOAT.fullmatch(plain) else None


BENCHMARK = Benchmark(
    name="mmmu",
    title="MMMU",
    hub_id="MMMU/MMMU",
    splits=("validation", "dev"),
    items=_items,
    mark=_mark,
)

r"""EMMA: mathematics, physics, chemistry and coding questions that need the picture; letters or short open answers.

Rules: the authors' fast-eval (github EMMA-Bench/EMMA, evaluation/evaluate.py and utils.py). The answer is the last box,
else what follows "the answer is", else all of it. It is right if it is the gold, the right option's text, a number that
is the gold's when both are rounded to two decimals, or an equal expression. lmms-eval does the same, and reads numbers
in words. The authors also offer GPT-4o for this; the rules are what can be repeated, so there is no judge here.

Where we leave it: a letter in a sentence or a list counts as the choice, which the authors' comparison of whole texts
misses. Context, question and options come in their order, each <image_1> in its place, options as "A: ..".

The full set has the parts Math, Physics, Chemistry and Coding, each also a split here. EMMA-mini (luckychao/EMMA-mini,
100 of each) has the same form: give its folder or file with --data.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, Mark
from srpo_fast.evaluation.free_answers import read_free
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.evaluation.option_answers import option_lines, read_option
from srpo_fast.evaluation.published_records import image_of, options_of, text_of, with_images
from srpo_fast.grading import Tolerance
from srpo_fast.grading.grader import Grader

ALL = "test"  # the split of all subjects
SUBJECTS = ("Math", "Physics", "Chemistry", "Coding")

_ROUNDED = Tolerance(decimals=2)
_LETTER_ASKED = r"Answer with the letter of the right option and put that letter in \boxed{}."
_WORD_ASKED = r"Answer with a single number, expression, word or phrase and put it in \boxed{}."
_STEPS_ASKED = "Solve the problem step by step."


def _reads(config: str, split: str, asked: str) -> bool:
    return config in SUBJECTS and split == "test" and asked in (ALL, config)


def _items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    return (_item(record) for record in records if split in (ALL, text_of(record, "subject")))


def _item(record: Mapping[str, Any]) -> Item:
    kind = text_of(record, "type")
    answer = text_of(record, "answer").strip()
    options = options_of(record, "options", answer.upper()) if kind.casefold() == "multiple choice" else ()
    subject = text_of(record, "subject")
    prompt, images = with_images(_prompt(record, options), lambda number: image_of(record, f"image_{number}"))
    return Item(
        id=text_of(record, "pid"),
        prompt=prompt,
        images=images,
        gold=(answer.upper() if options else answer,),
        options=options,
        answer_type=kind,
        tags={
            "subject": (subject,),
            "type": (kind,),
            "category": _named(subject, record.get("category")),
            "task": _named(subject, record.get("task")),
        },
    )


def _prompt(record: Mapping[str, Any], options: Sequence[str]) -> str:
    context = record.get("context") or ""
    parts = [context if context.casefold() != "none" else "", text_of(record, "question")]
    parts += [option_lines(options, "{}: {}"), _LETTER_ASKED] if options else [_WORD_ASKED]
    return "\n".join(part for part in parts if part.strip()) + f" {_STEPS_ASKED}"


def _named(subject: str, value: str | None) -> tuple[str, ...]:
    """Subjects have categories and tasks of the same name."""
    return (f"{subject}: {value}",) if value else ()


def _mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    return marks_of(answers, grader, _read)


def _read(item: Item, text: str) -> Mark | Pending:
    if item.options:
        return read_option(item, text, if_open=False)
    return read_free(item, text, tolerance=_ROUNDED, if_unequal=False)


BENCHMARK = Benchmark(
    name="emma",
    title="EMMA",
    hub_id="luckychao/EMMA",
    splits=(ALL, *SUBJECTS),
    items=_items,
    mark=_mark,
    reads=_reads,
)

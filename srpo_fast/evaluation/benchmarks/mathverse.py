r"""MathVerse (Zhang et al. 2024), testmini: 788 problems in five versions each, from words to pictures.

The sixth version, Text Only, is the split testmini_text_only; it has no picture and is not part of the paper's figure.

Where the rules come from: the official extract_answer_s1.py and score_answer_s2.py (ZrrSkywalker/MathVerse), which
lmms-eval repeats: a language model extracts the answer, and another call says whether it "completely matches" the
reference, the text of an option for its letter and 50cm for 0.5m included. Here rules decide what they can:

    multi-choice     the option named; several where the reference has several ("C\nD")
    free-form        right if grading calls it equal; wrong if both are numbers that differ by more than a rounding and
                     have no different units

and the judge has the rest in one question, with `question_for_eval`, which holds the question even where only the
picture does.

The prompt is the record's `query_cot`, as in the paper's own scripts (lmms-eval takes `query_wo`, which asks for the
answer at once), after the picture.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, JudgeTask, Mark
from srpo_fast.evaluation.free_answers import read_free
from srpo_fast.evaluation.judge_tasks import verdict_task
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.evaluation.option_answers import read_option
from srpo_fast.evaluation.published_records import image_of, text_of
from srpo_fast.grading.choices import options_in
from srpo_fast.grading.grader import Grader
from srpo_fast.image_marks import IMAGE_MARK, without_marks

OPTION, FREE = "multi-choice", "free-form"
TEXT_ONLY = "testmini_text_only"
_LETTERS = re.compile(r"[A-Z](?:[\s,;]+(?:and )?[A-Z])*")


def items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    """The questions of a file, which may hold those of the other split, too."""
    for record in records:
        if (text_of(record, "problem_version") == "Text Only") != (split == TEXT_ONLY):
            continue
        question_type = text_of(record, "question_type")
        if question_type not in (OPTION, FREE):
            raise BadRecord("bad_question", f"expected {OPTION} or {FREE} as question_type, got {question_type!r}")
        query = without_marks(text_of(record, "query_cot"))
        question = text_of(record, "question_for_eval" if "question_for_eval" in record else "question")
        has_options = question_type == OPTION
        metadata = record.get("metadata") or {}
        yield Item(
            id=text_of(record, "sample_index"),
            prompt=query if split == TEXT_ONLY else f"{IMAGE_MARK}\n{query}",
            images=() if split == TEXT_ONLY else (image_of(record, "image"),),
            gold=_gold(text_of(record, "answer"), has_options),
            options=tuple(text for _, text in options_in(question)) if has_options else (),
            answer_type=question_type,
            tags={
                "version": (text_of(record, "problem_version"),),
                "subject": (text_of(metadata, "subject"),),
                "subfield": (text_of(metadata, "subfield"),),
            },
            details={"question": question},
        )


def mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    """Marks by rules; None where they cannot tell."""
    return marks_of(answers, grader, _read)


def judge(item: Item, text: str) -> JudgeTask:
    """Asks whether the text gives the reference answer."""
    return verdict_task(question=item.details["question"], gold=", ".join(item.gold), answer=text)


def _gold(answer: str, has_options: bool) -> tuple[str, ...]:
    if not has_options:
        return (answer,)
    if not _LETTERS.fullmatch(answer.strip()):
        raise BadRecord("bad_answer", f"expected the letters of options as the answer, got {answer!r}")
    return tuple(re.findall("[A-Z]", answer))


def _read(item: Item, text: str) -> Mark | Pending:
    if item.answer_type == OPTION:
        return read_option(item, text, if_open=None)
    return read_free(item, text, if_unequal=None)


BENCHMARK = Benchmark(
    name="mathverse",
    title="MathVerse",
    hub_id="AI4Math/MathVerse",
    splits=("testmini", TEXT_ONLY),
    items=items,
    mark=mark,
    judge=judge,
)

"""MathVista (Lu et al. 2024), split testmini: 1,000 questions on charts, figures and diagrams.

Where the rules come from: the official calculate_score.py and extract_answer.py (lupantech/MathVista), which lmms-eval
repeats. There a language model extracts the answer from all but the shortest texts, and rules compare it:

    multi_choice     the option's text; a letter stands for it
    integer          cut to a whole number: 3.7 is 3
    float            rounded to `precision` places
    list             the same numbers in the same order

Units are not looked at: only the number counts. Here rules extract as well and the judge is asked only where they leave
the answer open. Differences: the official scorer takes the option that looks most similar to the extraction, which is
a guess and not done here; it compares numbers as Python prints them, here their values count (0.70 is 0.7, 25% of a
float is 0.25), and halves are rounded up.

The prompt is the record's own `query`, after the picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, JudgeTask, Mark
from srpo_fast.evaluation.judge_tasks import extraction_task
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.evaluation.number_answers import final_number, final_numbers
from srpo_fast.evaluation.option_answers import chosen_option, lettered, mark_of_choice, read_option
from srpo_fast.evaluation.published_records import image_of, text_of, texts_of
from srpo_fast.grading import Tolerance
from srpo_fast.grading.grader import Grader
from srpo_fast.grading.literals import decimals
from srpo_fast.grading.quantities import quantity
from srpo_fast.image_marks import IMAGE_MARK, without_marks

OPTION, INTEGER, FLOAT, LIST = "text", "integer", "float", "list"
_FORMS = {
    OPTION: "the letter of the option",
    INTEGER: "a whole number in digits",
    FLOAT: "a decimal number in digits, without its unit",
    LIST: "a list of numbers in brackets, as [1, 2]",
}


def items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    """The questions of a file, which may hold those of another split, too."""
    for record in records:
        metadata = record.get("metadata") or {}
        if metadata.get("split", split) != split:
            continue
        if "question" in record and "query" not in record:
            raise BadRecord(
                "unknown_fields", "expected the prompt in the field 'query', which GitHub's testmini.json lacks; take "
                "the data set of the Hugging Face hub"
            )  # fmt: skip
        choices = texts_of(record, "choices")
        answer_type = text_of(record, "answer_type")
        if answer_type not in _FORMS or (answer_type == OPTION) != bool(choices):
            raise BadRecord("bad_question", f"expected one of {', '.join(_FORMS)} as answer_type, got {answer_type!r}")
        yield Item(
            id=text_of(record, "pid"),
            prompt=f"{IMAGE_MARK}\n{without_marks(text_of(record, 'query'))}",
            images=(image_of(record, "decoded_image", "image"),),
            gold=(_gold(text_of(record, "answer"), choices, answer_type),),
            options=choices,
            answer_type=answer_type,
            tags={
                "task": (text_of(metadata, "task"),),
                "skill": texts_of(metadata, "skills"),
                "category": (text_of(metadata, "category"),),
                "context": (text_of(metadata, "context"),),
                "grade": (text_of(metadata, "grade"),),
            },
            details={"places": int(float(record.get("precision") or 0)), "question": text_of(record, "query")},
        )


def mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    """Marks by rules; None where they leave open what the answer is."""
    return marks_of(answers, grader, _read)


def judge(item: Item, text: str) -> JudgeTask:
    """Asks which answer the text gives; the rules mark it."""

    def marked(said: str) -> Mark:
        if item.answer_type != OPTION:
            return _number_mark(item, said)
        choice = chosen_option(said, lettered(item.options))
        return mark_of_choice(item, choice) if choice else Mark(is_right=None, extracted=said, rule="")

    return extraction_task(question=item.details["question"], answer=text, form=_FORMS[item.answer_type], mark=marked)


def _gold(answer: str, choices: Sequence[str], answer_type: str) -> str:
    """The answer, of several options its letter."""
    if answer_type == OPTION:
        if answer not in choices:
            raise BadRecord("bad_answer", f"expected one of the choices as the answer, got {answer!r}")
        return lettered(choices)[choices.index(answer)][0]
    if answer_type != LIST and quantity(answer) is None:
        raise BadRecord("bad_answer", f"expected a number as the answer, got {answer!r}")
    return answer


def _read(item: Item, text: str) -> Mark | Pending:
    return read_option(item, text, if_open=None) if item.answer_type == OPTION else _number_mark(item, text)


def _number_mark(item: Item, text: str) -> Mark:
    (gold,) = item.gold
    if item.answer_type == LIST:
        said, truth = final_numbers(text), final_numbers(gold)
        is_right = [n.value for n in said] == [n.value for n in truth] if len(said) == len(truth) else None
        return Mark(is_right=is_right, extracted=", ".join(n.text for n in said), rule="list of numbers")
    answer, true_number = final_number(text), quantity(gold)
    if answer is None or true_number is None:
        return Mark(is_right=None, extracted="", rule="no number given")
    number = answer.number
    if item.answer_type == INTEGER:
        value = int(number.value) if decimals(number.text) else number.value
        return Mark(is_right=value == true_number.value, extracted=number.text, rule=f"{answer.rule}, cut")
    places = item.details["places"]
    is_right = number.is_near(true_number, Tolerance(decimals=places))
    return Mark(is_right=is_right, extracted=number.text, rule=f"{answer.rule}, {places} decimals")


BENCHMARK = Benchmark(
    name="mathvista",
    title="MathVista",
    hub_id="AI4Math/MathVista",
    splits=("testmini",),
    items=items,
    mark=mark,
    judge=judge,
)

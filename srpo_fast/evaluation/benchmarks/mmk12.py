"""MMK12: school examinations in mathematics, physics, chemistry and biology, of which the paper's "Physics" is a part.

Rules: MM-EUREKA's scripts (github ModalMinds/MM-EUREKA, eval/mmk12 and eval/k12), which the paper's repository has too.
They take the first <answer> block, else the last box, and ask GPT-4o whether it is the right answer, yes or no.
lmms-eval asks a judge about the whole text. Here rules decide what no judge would see otherwise: the letter, text or
value of an option, and plain numbers. The rest goes to a judge, and is wrong without one.

The test split (FanqingM/MMK12) has 500 questions a subject, the options in the question's text, and the subject in a
field. The older k12.json has 500 of mathematics with free answers, pictures as paths, and no subject.
"""

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, JudgeTask, Mark
from srpo_fast.evaluation.free_answers import read_free
from srpo_fast.evaluation.judge_tasks import verdict_task
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.evaluation.option_answers import lettered, read_option
from srpo_fast.evaluation.published_records import image_of, text_of
from srpo_fast.grading.choices import options_in
from srpo_fast.grading.grader import Grader
from srpo_fast.image_marks import IMAGE_MARK, without_marks

SUBJECTS = ("math", "physics", "chemistry", "biology")

_IN_THE_PICTURE = tuple("ABCD")  # options that the question's text does not have
_ASKED = "Reason step by step, and put the final answer in \\boxed{}."


def _items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    return (_item(record) for record in records)


def _item(record: Mapping[str, Any]) -> Item:
    question, answer = text_of(record, "question").strip(), text_of(record, "answer").strip()
    options = _options(question, answer)
    return Item(
        id=text_of(record, "id"),
        prompt=f"{IMAGE_MARK}\n{without_marks(question)}\n{_ASKED}",
        images=(image_of(record, "image", "image_path"),),
        gold=tuple(answer) if options else (answer,),
        options=options,
        answer_type="multi-choice" if options else "free",
        tags={"subject": _subject(record)},
        details={"question": question},
    )


def _options(question: str, answer: str) -> tuple[str, ...]:
    """The options' texts; () where the answer is no letters of theirs."""
    texts = tuple(text for _, text in options_in(question)) or _IN_THE_PICTURE
    return texts if answer and set(answer) <= set(ascii_uppercase[: len(texts)]) else ()


def _subject(record: Mapping[str, Any]) -> tuple[str, ...]:
    """From the field, else from how the id begins; () of a record that does not say."""
    named = str(record.get("subject") or record.get("id")).casefold()
    return tuple(subject for subject in SUBJECTS if named.startswith(subject))


def _mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    return marks_of(answers, grader, _read)


def _read(item: Item, text: str) -> Mark | Pending:
    return read_option(item, text, if_open=None) if item.options else read_free(item, text, if_unequal=None)


def _judge(item: Item, text: str) -> JudgeTask:
    texts = dict(lettered(item.options))
    gold = "\n".join(f"{answer}. {texts[answer]}" if item.options else answer for answer in item.gold)
    return verdict_task(question=item.details["question"], gold=gold, answer=text)


BENCHMARK = Benchmark(
    name="mmk12",
    title="MMK12",
    hub_id="FanqingM/MMK12",
    splits=("test",),
    items=_items,
    mark=_mark,
    judge=_judge,
)

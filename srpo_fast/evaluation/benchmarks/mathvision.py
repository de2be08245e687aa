r"""MATH-Vision (Wang et al. 2024): 3,040 competition problems with pictures (test), 304 of them in testmini.

Where the rules come from: the official evaluate.py (mathllm/MATH-V), which is rules alone: the last \boxed{..}, else
what follows the last "the answer is" and its like, is right if it is the reference, the text of the option that the
reference is the letter of, or an expression whose value is the reference's to two decimals. Degrees and a few units are
dropped; lists and tuples are compared item by item. lmms-eval has these rules and a judge beside them; the paper's
scripts ask a language model where no option can be inferred. Followed here: the official rules, no judge.

Differences, all of which let more answers count: a unit of any kind may be left out of either side (not exchanged), 75%
is 0.75, and options are found in more ways of saying them (option_answers.py). What names no option and no value is
wrong.

The prompt asks for the answer in a box, of an option the letter alone, as the official one does, in words of our own.
`decoded_image` is one picture even where the text speaks of <image1> and <image2>: it comes first, and the text keeps
those names, as the official prompt does. Options that are only letters (drawn in the picture) are not repeated.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.bad_record import BadRecord
from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, Mark
from srpo_fast.evaluation.free_answers import read_free
from srpo_fast.evaluation.marking import Pending, marks_of
from srpo_fast.evaluation.option_answers import lettered, option_lines, read_option
from srpo_fast.evaluation.published_records import image_of, text_of, texts_of
from srpo_fast.grading import Tolerance
from srpo_fast.grading.grader import Grader
from srpo_fast.image_marks import IMAGE_MARK, without_marks

TWO_DECIMALS = Tolerance(decimals=2)
_INSTRUCTION = r"Solve the problem step by step and put the final answer into \boxed{}."
_OPTION_INSTRUCTION = rf"{_INSTRUCTION} The box of a multiple-choice question holds the letter of the option alone."


def items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    """The questions of a file."""
    for record in records:
        options, answer = texts_of(record, "options"), text_of(record, "answer").strip()
        letters = [letter for letter, _ in lettered(options)]
        if options and answer not in letters:
            raise BadRecord("bad_answer", f"expected one of the letters {''.join(letters)} as answer, got {answer!r}")
        yield Item(
            id=text_of(record, "id"),
            prompt=_prompt(text_of(record, "question"), options, letters),
            images=(image_of(record, "decoded_image", "image"),),
            gold=(answer,),
            options=options,
            answer_type="option" if options else "free",
            tags={"subject": (text_of(record, "subject"),), "level": (text_of(record, "level"),)},
        )


def mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    """Marks by rules, which decide everything."""
    return marks_of(answers, grader, _read)


def _prompt(question: str, options: Sequence[str], letters: Sequence[str]) -> str:
    lines = [IMAGE_MARK, _OPTION_INSTRUCTION if options else _INSTRUCTION, without_marks(question)]
    if list(options) != letters:
        lines.append(without_marks(option_lines(options)))
    return "\n".join(lines)


def _read(item: Item, text: str) -> Mark | Pending:
    if item.options:
        return read_option(item, text, tolerance=TWO_DECIMALS, if_open=False)
    return read_free(item, text, tolerance=TWO_DECIMALS, if_unequal=False)


BENCHMARK = Benchmark(
    name="mathvision",
    title="MATH-Vision",
    hub_id="MathLLMs/MathVision",
    splits=("test", "testmini"),
    items=items,
    mark=mark,
)

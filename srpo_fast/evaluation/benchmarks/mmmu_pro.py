"""MMMU-Pro (Yue et al. 2024): 1,730 college questions with up to ten options, or as pictures that hold the question.

The splits are the data set's configurations. Leaderboards give the mean of `standard (10 options)` and `vision`; which
of the three the SRPO paper's figure is, it does not say.

Where the rules come from: the official evaluate.py (MMMU-Benchmark/MMMU, folder mmmu-pro), which lmms-eval follows: the
option after the last "Answer:"; else the letter in parentheses, the lone letter or the option's text that comes last in
the response. Rules decide everything. Differences:

    - where nothing names an option the official scorer picks one at random; here, as in lmms-eval, that is wrong;
    - "A" before a word and "I" are words here, never letters by themselves (there "DNA " counts as A);
    - a box, "the answer is ..", "the second option" and an option's value are understood before the last mention is.

The prompt is the official one's chain-of-thought form in words of our own: question, options "A. ..", and the request
to reason and to end with "Answer: $LETTER". (The other official form asks for the letter at once.) <image 1> becomes a
picture where it stands, in questions and in options: one that is mentioned twice is shown twice, as in the official
script; one that is not mentioned is not shown.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from srpo_fast.evaluation.benchmark import Answer, Benchmark, Item, Mark
from srpo_fast.evaluation.option_answers import (
    Choice,
    chosen_option,
    last_named_option,
    lettered,
    mark_of_choice,
    option_lines,
)  # fmt: skip
from srpo_fast.evaluation.published_records import image_of, options_of, text_of, with_images
from srpo_fast.grading.choices import Options
from srpo_fast.grading.grader import Grader
from srpo_fast.image_marks import IMAGE_MARK

TEN_OPTIONS, FOUR_OPTIONS, VISION = "standard (10 options)", "standard (4 options)", "vision"
_FORM = "Think step by step, and let the last line be 'Answer: $LETTER', where LETTER is that of one option."
_INSTRUCTION = f"Answer the multiple-choice question above. {_FORM}"
_VISION_INSTRUCTION = f"Write down the multiple-choice question that the picture shows, and solve it. {_FORM}"
_ANSWER_LINE = re.compile(
    r"(?i:answer)[*_ ]*:[*_$(\s]*(?:\\(?:text|boxed)\{)?\(?"
    r"([B-HJ]|[AI](?! [a-z]))(?![\w'])(?!\)?(?:,| or| and|/) ?\(?[A-J]\b)"
)


def items(records: Iterator[Mapping[str, Any]], split: str) -> Iterator[Item]:
    """The questions of a file, which is that of the configuration `split`."""
    for record in records:
        answer = text_of(record, "answer").strip()
        options = options_of(record, "options", answer)
        if split == VISION:
            prompt, images = f"{IMAGE_MARK}\n{_VISION_INSTRUCTION}", (image_of(record, "image"),)
        else:
            asked = f"{text_of(record, 'question')}\n{option_lines(options, '{}. {}')}\n{_INSTRUCTION}"
            prompt, images = with_images(asked, lambda number, record=record: image_of(record, f"image_{number}"))
        yield Item(
            id=text_of(record, "id"),
            prompt=prompt,
            images=images,
            gold=(answer,),
            options=options,
            answer_type="option",
            tags={"subject": (text_of(record, "subject"),)},
        )


def mark(answers: Sequence[Answer], grader: Grader) -> list[Mark]:
    """Marks by rules, which decide everything."""
    return [_mark(item, text) for item, text in answers]


def _mark(item: Item, text: str) -> Mark:
    options = lettered(item.options)
    choice = _answer_line(text, options) or chosen_option(text, options) or last_named_option(text, options)
    if choice is None:
        return Mark(is_right=False, extracted="", rule="no option named")
    return mark_of_choice(item, choice)


def _answer_line(text: str, options: Options) -> Choice | None:
    """The option of the last "Answer: X"."""
    letters = [letter for letter in _ANSWER_LINE.findall(text) if letter in dict(options)]
    return Choice(letters[-1], "answer line") if letters else None


BENCHMARK = Benchmark(
    name="mmmu_pro",
    title="MMMU-Pro",
    hub_id="MMMU/MMMU_Pro",
    splits=(TEN_OPTIONS, VISION, FOUR_OPTIONS),
    items=items,
    mark=mark,
)

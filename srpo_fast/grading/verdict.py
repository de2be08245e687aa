"""Does an answer say what the gold says? What text, letters, numbers and units can tell, in microseconds.

What only symbolic comparison can tell is left to expressions.py, which may take arbitrarily long and shares the way
there, `is_gold`, with quick_verdict:

    choices.py       letters and the options they stand for
    comparison.py    part by part: lists, intervals, equations, .. (answer_parts.py)
    quantities.py    numbers and units, within the gold's tolerance (literals.py, units.py)
    answer_text.py   the normal form that all of these read
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from srpo_fast.grading.answer_text import group_end, is_name, normalized, words
from srpo_fast.grading.choices import DEFAULT_LETTERS, Options, letter_of, letters_of, marked_text
from srpo_fast.grading.comparison import MAX_CHARACTERS, Comparison, Judge, any_of, squeezed
from srpo_fast.grading.quantities import EXACT, Tolerance

__all__ = ["EXACT", "Gold", "Tolerance", "Verdict", "is_gold", "quick_verdict"]

_LETTER_GOLD = re.compile(rf"[(\[]? ?([{DEFAULT_LETTERS}]) ?[)\]]?[.:]?|[(\[] ?([a-j]) ?[)\]]|([a-j])\)")
_MARKED_GOLD = re.compile(rf"(?:\( ?([{DEFAULT_LETTERS}]) ?\)|([{DEFAULT_LETTERS}])[.):]) ?\S.*")


class Verdict(StrEnum):
    """What became of comparing one answer with its gold. Only RIGHT earns reward; the last two are the workers'."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSABLE_GOLD = "unparsable_gold"  # the answer is not the gold's text, and the gold is no expression
    TIMEOUT = "timeout"
    CRASH = "crash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """The ground truth of one question; hashable, to be a cache key."""

    text: str
    options: Options = ()  # (letter, text) of a multiple-choice question; () when it is none
    tolerance: Tolerance = EXACT


def quick_verdict(answer: str, gold: Gold) -> Verdict | None:
    """Whether `answer`, the value of an answer block, is the gold; None where only symbolic comparison can tell."""
    if not _says_something(_normalized(gold.text)) and answer.strip() != gold.text.strip():
        return Verdict.UNPARSABLE_GOLD
    result = is_gold(answer, gold, _cannot_tell)
    return None if result is None else Verdict.RIGHT if result else Verdict.WRONG


def is_gold(answer: str, gold: Gold, judge: Judge) -> bool | None:
    """Whether the answer is the gold, where `judge` compares expressions; None where it has to and cannot tell."""
    if answer.strip() == gold.text.strip():
        return bool(gold.text.strip())
    said, truth = _normalized(answer), _normalized(gold.text)
    if not said or not truth:
        return False
    comparison = Comparison(judge, gold.tolerance)
    if gold.options:
        return _is_option(said, truth, gold.options, comparison)
    letter = _gold_letter(truth)
    if letter is None:
        text = marked_text(said)
        return any_of([comparison.equal(said, truth), comparison.equal(text, truth)])
    if answered := letter_of(said, ()):
        return answered == letter
    text = marked_text(truth)
    return comparison.equal(said, text) if text else is_name(said) and words(said) == words(truth)


def _is_option(said: str, truth: str, options: Options, comparison: Comparison) -> bool | None:
    """Letters against letters where both name one, else the texts they stand for. A letter counts before its text."""
    texts = {letter: _normalized(text) for letter, text in options}
    if (true_letters := letters_of(truth, options)) and truth not in texts.values():
        return letters_of(said, options) == true_letters
    true_letter, letter = letter_of(truth, options) or _option_of(truth, texts), letter_of(said, options)
    if true_letter and letter:
        return letter == true_letter
    if true_letter is None:
        return comparison.equal(texts[letter] if letter else said, truth)
    result = comparison.equal(said, texts[true_letter])
    if not result or squeezed(said) == squeezed(texts[true_letter]):
        return result
    others = (text for letter, text in texts.items() if letter != true_letter)
    return not any(comparison.equal(said, text) for text in others)  # "12" is neither 12 cm nor 12 m


@lru_cache(maxsize=2**12)
def _says_something(truth: str) -> bool:
    """Whether a gold has a letter or digit, or is a sign that means something by itself, and closes its braces."""
    if not any(character.isalnum() for character in truth):
        return truth in ("{}", r"\{\}", r"\{ \}")
    return group_end("{" + truth + "}", 0) == len(truth) + 1


@lru_cache(maxsize=2**12)
def _gold_letter(truth: str) -> str | None:
    """The letter of a gold that is one, alone or before its text, where the options are unknown."""
    if alone := _LETTER_GOLD.fullmatch(truth):
        return next(letter for letter in alone.groups() if letter).upper()
    marked = _MARKED_GOLD.fullmatch(truth)
    return (marked[1] or marked[2]) if marked else None


def _option_of(truth: str, texts: dict[str, str]) -> str | None:
    """The letter of the option whose text the gold is: the same text, else the only one of the same value."""
    if same := [letter for letter, text in texts.items() if words(text) == words(truth)]:
        return same[0] if len(same) == 1 else None
    comparison = Comparison(_cannot_tell)
    equal = [letter for letter, text in texts.items() if comparison.equal(text, truth)]
    return equal[0] if len(equal) == 1 else None


def _cannot_tell(answer: str, gold: str, tolerance: Tolerance) -> None:
    return None


def _normalized(text: str) -> str:
    return _short_normalized(text) if len(text) <= MAX_CHARACTERS else normalized(text)


_short_normalized = lru_cache(maxsize=2**14)(normalized)

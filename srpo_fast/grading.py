"""Does an answer say what the gold says? What strings, letters and numbers can tell, in microseconds.

What only symbolic comparison can tell is left to expressions.py, which may take arbitrarily long. An expression that
cannot be parsed equals nothing but its own text, on either side.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

MAX_CHARACTERS = 200  # longer texts are compared as strings


class Verdict(StrEnum):
    """What became of comparing one answer with its gold. Only RIGHT earns reward; the last two are the workers'."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSABLE_GOLD = "unparsable_gold"  # the answer is not the gold's text, and the gold is no expression
    TIMEOUT = "timeout"
    CRASH = "crash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far from the gold's number an answer's may lie: by the larger of a share of the gold and a distance."""

    relative: float = 0.0
    absolute: float = 0.0


EXACT = Tolerance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """The ground truth of one question; hashable, to be a cache key."""

    text: str
    options: tuple[tuple[str, str], ...] = ()  # (letter, text) of a multiple-choice question; () when it is none
    tolerance: Tolerance = EXACT


# the normal form
_TAG = re.compile(r"</?(?:think|answer|reflection)>")
_MATH_SPAN = re.compile(r"\$([^$]+)\$")
_WRAPPER = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}|\\\((.*)\\\)|\\\[(.*)\\\]")
_MIXED_NUMBER = re.compile(r"(\d+) (\d+) ?/ ?(\d+)")
_TRANSLATION = str.maketrans({"\N{MINUS SIGN}": "-", "\N{DEGREE SIGN}": r"^\circ"})

# kinds of answers
NAME = re.compile(r"[^\W\d_][^\d\\^=+*/<>|]*")  # letters and no operator: words, never a product of variables
_CHOICE_GOLD = re.compile(r"\(?([A-J])[).:]?|\(([a-j])\)")
_CHOICE = re.compile(r"\(?([A-Ja-j])(?:\)?|[).:].*)|(?i:.*\b(?:answer|option|choice)(?: is)?:?) \(?([A-J])\)?")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)")
_MEASURE = re.compile(_NUMBER.pattern + r"(?: |~|\\[,;: ])*(?:\\(?:text|mathrm)\s*\{\s*)?([A-Za-z]+)\}?")
_OPERATOR = re.compile(r"[\\^=*/<>]|\b(?:sin|cos|tan|log|exp|sqrt)\b")
_WORD = re.compile(r"[A-Za-z]{3,}")


def quick_verdict(answer: str, gold: Gold) -> Verdict | None:
    """Whether `answer`, the value of an answer block, is the gold; None where only symbolic comparison can tell."""
    if max(len(answer), len(gold.text)) > MAX_CHARACTERS:
        return _verdict(answer.strip() == gold.text.strip())
    said, truth = normalized(answer), normalized(gold.text)
    if not truth:
        return Verdict.UNPARSABLE_GOLD
    if not said:
        return Verdict.WRONG
    if said == truth:
        return Verdict.RIGHT
    if choice := _CHOICE_GOLD.fullmatch(truth):
        return _verdict(_letter(said) == (choice[1] or choice[2]).upper())
    if NAME.fullmatch(truth):
        return _verdict(said.casefold() == truth.casefold())
    if _have_different_units(said, truth):
        return Verdict.WRONG
    said, truth = lone_number(said), lone_number(truth)
    if _NUMBER.fullmatch(said) and _NUMBER.fullmatch(truth):
        return _verdict(Decimal(said.replace(",", "")) == Decimal(truth.replace(",", "")))
    return None


def normalized(text: str) -> str:
    """The text without our tags, delimiters of mathematics, \\text-like wrappers, odd spaces and a final period."""
    text = " ".join(_TAG.sub("", text).translate(_TRANSLATION).replace(r"\$", "").split())
    spans = _MATH_SPAN.findall(text)
    text = (spans[0] if len(spans) == 1 else text).strip(" $").removesuffix(".").rstrip(" $")
    text = _MIXED_NUMBER.sub(r"\1\\frac{\2}{\3}", text)
    while wrapper := _WRAPPER.fullmatch(text):
        text = next(inner for inner in wrapper.groups() if inner is not None).strip(" $")
    return text


def _letter(answer: str) -> str | None:
    choice = _CHOICE.fullmatch(answer)
    return (choice[1] or choice[2]).upper() if choice else None


def _have_different_units(answer: str, gold: str) -> bool:
    """Both are a number and a word, and the words differ; math-verify would drop many units and compare the numbers."""
    answer_measure, gold_measure = _MEASURE.fullmatch(answer), _MEASURE.fullmatch(gold)
    return bool(answer_measure and gold_measure and answer_measure[1] != gold_measure[1])


def lone_number(text: str) -> str:
    """The number of a phrase that holds exactly one ("about 12 apples"); any other text as it is."""
    if _OPERATOR.search(text) or not _WORD.search(text):
        return text
    numbers = _NUMBER.findall(text)
    return numbers[0] if len(numbers) == 1 else text


def _verdict(is_right: bool) -> Verdict:
    return Verdict.RIGHT if is_right else Verdict.WRONG

"""Does an answer say what the gold says? Strings first, then choice letters and plain numbers, then math-verify.

An expression that cannot be parsed equals nothing but its own text, on either side. math-verify's timeouts are alarm
signals, which exist only in the main thread, so they are off. In exchange, the texts that keep sympy busy for minutes
(long ones, large or stacked powers, factorials, sums) never reach it.
"""

import logging
import math
import re
from decimal import Decimal
from functools import lru_cache

import sympy
from math_verify import LatexExtractionConfig
from math_verify import parse as parse_expression
from math_verify import verify as verify_expressions

MAX_CHARACTERS = 200  # longer texts are compared as strings
MAX_EXPONENT = 1000  # of all exponents in an expression, multiplied

# the normal form
_TAG = re.compile(r"</?(?:think|answer|reflection)>")
_MATH_SPAN = re.compile(r"\$([^$]+)\$")
_WRAPPER = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}|\\\((.*)\\\)|\\\[(.*)\\\]")
_MIXED_NUMBER = re.compile(r"(\d+) (\d+) ?/ ?(\d+)")
_TRANSLATION = str.maketrans({"\N{MINUS SIGN}": "-", "\N{DEGREE SIGN}": r"^\circ"})

# kinds of answers
_NAME = re.compile(r"[^\W\d_][^\d\\^=+*/<>|]*")  # letters and no operator: words, never a product of variables
_CHOICE_GOLD = re.compile(r"\(?([A-J])[).:]?|\(([a-j])\)")
_CHOICE = re.compile(r"\(?([A-Ja-j])(?:\)?|[).:].*)|(?i:.*\b(?:answer|option|choice)(?: is)?:?) \(?([A-J])\)?")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)")
_MEASURE = re.compile(_NUMBER.pattern + r"(?: |~|\\[,;: ])*(?:\\(?:text|mathrm)\s*\{\s*)?([A-Za-z]+)\}?")
_OPERATOR = re.compile(r"[\\^=*/<>]|\b(?:sin|cos|tan|log|exp|sqrt)\b")
_WORD = re.compile(r"[A-Za-z]{3,}")

# what sympy may be given: every exponent is short and flat
_EXPONENT = re.compile(
    r"\^\s*(?:\{(?:-?\\[dt]?frac\{\w+\}\{\w+\}|[\w\\/.+-]{1,12})\}|\([\w/.+-]{1,12}\)|\w+|\\circ)(?!\s*\^)"
)
_NEVER_ENDING = re.compile(r"!|\*\*|\\(?:binom|sum|prod|int|lim)")
_LATEX = (LatexExtractionConfig(boxed_match_priority=-1),)

# the only thing it warns of is that its timeouts are off
logging.getLogger("math_verify").setLevel(logging.ERROR)


def is_correct(answer: str, gold: str) -> bool:
    """Whether `answer`, the value of an answer block, equals the ground truth. Nothing equals an empty gold."""
    if max(len(answer), len(gold)) > MAX_CHARACTERS:
        return answer.strip() == gold.strip()
    return _is_equal(answer, gold)


# training grades the same few strings over and over
@lru_cache(maxsize=2**15)
def _is_equal(answer: str, gold: str) -> bool:
    answer, gold = _normalized(answer), _normalized(gold)
    if not answer or not gold:
        return False
    if answer == gold or (_NAME.fullmatch(gold) and answer.casefold() == gold.casefold()):
        return True
    if choice := _CHOICE_GOLD.fullmatch(gold):
        return _letter(answer) == (choice[1] or choice[2]).upper()
    if _have_different_units(answer, gold):
        return False
    answer, gold = _lone_number(answer), _lone_number(gold)
    if _NUMBER.fullmatch(answer) and _NUMBER.fullmatch(gold):
        return Decimal(answer.replace(",", "")) == Decimal(gold.replace(",", ""))
    return _is_equal_expression(_expression(answer), _expression(gold))


def _normalized(text: str) -> str:
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


def _lone_number(text: str) -> str:
    """The number of a phrase that holds exactly one ("about 12 apples"); any other text as it is."""
    if _OPERATOR.search(text) or not _WORD.search(text):
        return text
    numbers = _NUMBER.findall(text)
    return numbers[0] if len(numbers) == 1 else text


@lru_cache(maxsize=2**13)
def _expression(text: str) -> sympy.Basic | None:
    """What math-verify reads in the text; None if that is nothing or sympy might never finish with it."""
    exponents = [power[0] for power in _EXPONENT.finditer(text)]
    size = math.prod(int(digits) for exponent in exponents for digits in re.findall(r"[1-9]\d*", exponent))
    if _NAME.fullmatch(text) or _NEVER_ENDING.search(text) or len(exponents) < text.count("^") or size > MAX_EXPONENT:
        return None
    expressions = parse_expression(f"${text}$", _LATEX, fallback_mode="no_fallback", parsing_timeout=0)
    return expressions[0] if expressions else None


def _is_equal_expression(answer: sympy.Basic | None, gold: sympy.Basic | None) -> bool:
    if answer is None or gold is None:
        return False
    # simplifying (x + y + z)^20 - 12 takes minutes
    are_terms = isinstance(answer, sympy.Expr) and isinstance(gold, sympy.Expr)
    if are_terms and answer.free_symbols != gold.free_symbols:
        return False
    return verify_expressions(gold, answer, timeout_seconds=0)

"""Is one expression another, symbolically? math-verify and sympy, and nothing else in the program imports them.

sympy may take minutes, or all the memory: run this only in a process that can be killed. math-verify's timeouts are
alarm signals, which exist only in the main thread, so they are off. The texts that would surely keep sympy busy (large
or stacked powers, factorials, sums) are refused at once: a killed process costs more.
"""

import logging
import math
import re
from functools import lru_cache

import sympy
from math_verify import LatexExtractionConfig
from math_verify import parse as parse_expression
from math_verify import verify as verify_expressions

from srpo_fast.grading import NAME, Gold, Verdict, lone_number, normalized, quick_verdict

MAX_EXPONENT = 1000  # of all exponents in an expression, multiplied

# what sympy may be given: every exponent is short and flat
_EXPONENT = re.compile(
    r"\^\s*(?:\{(?:-?\\[dt]?frac\{\w+\}\{\w+\}|[\w\\/.+-]{1,12})\}|\([\w/.+-]{1,12}\)|\w+|\\circ)(?!\s*\^)"
)
_NEVER_ENDING = re.compile(r"!|\*\*|\\(?:binom|sum|prod|int|lim)")
_LATEX = (LatexExtractionConfig(boxed_match_priority=-1),)

# the only thing it warns of is that its timeouts are off
logging.getLogger("math_verify").setLevel(logging.ERROR)


def symbolic_verdict(answer: str, gold: Gold) -> Verdict:
    """RIGHT, WRONG or UNPARSABLE_GOLD, of an answer for which grading.quick_verdict could not tell."""
    truth = _expression(lone_number(normalized(gold.text)))
    if truth is None:
        return Verdict.UNPARSABLE_GOLD
    said = _expression(lone_number(normalized(answer)))
    return Verdict.RIGHT if _is_equal_expression(said, truth) else Verdict.WRONG


def is_correct(answer: str, gold: str | Gold) -> bool:
    """Whether the answer is the gold, told in this process, however long it takes."""
    gold = Gold(text=gold) if isinstance(gold, str) else gold
    return (quick_verdict(answer, gold) or symbolic_verdict(answer, gold)) is Verdict.RIGHT


@lru_cache(maxsize=2**13)
def _expression(text: str) -> sympy.Basic | None:
    """What math-verify reads in the text; None if that is nothing or sympy might never finish with it."""
    exponents = [power[0] for power in _EXPONENT.finditer(text)]
    size = math.prod(int(digits) for exponent in exponents for digits in re.findall(r"[1-9]\d*", exponent))
    if NAME.fullmatch(text) or _NEVER_ENDING.search(text) or len(exponents) < text.count("^") or size > MAX_EXPONENT:
        return None
    expressions = parse_expression(f"${text}$", _LATEX, fallback_mode="no_fallback", parsing_timeout=0)
    return expressions[0] if expressions else None


def _is_equal_expression(answer: sympy.Basic | None, gold: sympy.Basic) -> bool:
    if answer is None:
        return False
    # simplifying (x + y + z)^20 - 12 takes minutes
    are_terms = isinstance(answer, sympy.Expr) and isinstance(gold, sympy.Expr)
    if are_terms and answer.free_symbols != gold.free_symbols:
        return False
    return verify_expressions(gold, answer, timeout_seconds=0)

r"""Is one expression another, symbolically? math-verify, its parser and sympy; no other module imports them.

sympy may take minutes, or all the memory: run this only in a process that can be killed. math-verify's timeouts are
alarm signals, which exist only in the main thread, so they are off. A few texts that would surely keep sympy busy
(stacked or huge powers, factorials of large numbers) are refused at once: a killed process costs more.

Before anything is simplified, expressions are evaluated at a few points: where they differ, they are not equal. The
parser is told to keep every letter, and its case (left alone, it reads R as r and the h of \pi r h as hours).
"""

import logging
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import sympy
from antlr4 import Parser
from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from math_verify import verify

from srpo_fast.grading.literals import resolution
from srpo_fast.grading.quantities import Tolerance, quantity
from srpo_fast.grading.verdict import Gold, Verdict, is_gold

MAX_EXPONENT = 1000  # of all exponents in an expression, multiplied
MAX_BRACKETS = 80  # opening ones; the parser takes seconds for hundreds

# every exponent is short and flat
_EXPONENT = re.compile(
    r"\^\s*(?:\{(?:[\w\\/.+ -]|\{[\w\\/.+ -]{0,30}\}){1,40}\}|\([\w/.+-]{1,12}\)|\w+|\\circ)(?!\s*\^)"
)
_EXPANDING = re.compile(r"!|\\(?:binom|sum|prod|int|lim)")
_BRACKET = re.compile(r"[({\[]")
_LARGE = re.compile(r"\d{4}")

# spellings the parser does not know
_BARE_COMMAND = re.compile(
    r"(?<![\\A-Za-z])((?:arc)?(?:sin|cos|tan)|cot|sec|csc|sqrt|log|ln|exp|pi|infinity|alpha|beta|gamma|theta|lambda)"
    r"(?![A-Za-z])"
)
_BARE_POWER = re.compile(r"\^(\d{2,})")
_SHORT_SUBSCRIPT = re.compile(r"_ ?\{ ?(\w) ?\}")
_NAMED_SUBSCRIPT = re.compile(r"_ ?\{ ?\\(odot|oplus|max|min|perp|parallel|star)(?![A-Za-z]) ?\}")
_VECTOR = re.compile(r"\\vec ?([A-Za-z])(?![A-Za-z])")
_BARE_ROOT = re.compile(r"\\sqrt ?(\d+|[A-Za-z])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ANGLE = re.compile(r"(\d+(?:\.\d+)?) ?\^\\circ")
_TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_IMAGINARY = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])")
_SETTINGS = ConversionConfig(lowercase_symbols=False)

_DIGITS = 60
_NOTHING = sympy.Float("1e-100")  # less than any constant of nature, more than what evaluating 0 leaves
_POINTS = (  # for the 1st, 2nd, .. variable, all anew at every point
    ("1.2718", "2.3141", "0.5772", "1.6180", "3.3598", "0.9159"),
    ("0.4142", "1.7320", "2.2360", "0.6457", "1.3166", "2.6055"),
    ("2.9173", "0.3819", "1.1319", "2.0945", "0.7071", "1.2020"),
    ("-1.4567", "1.8393", "-0.6434", "-2.6854", "1.0986", "-0.1411"),
    ("0.7853", "-1.2599", "-2.5029", "1.7724", "-0.4812", "2.4142"),
)

# the only thing it warns of is that its timeouts are off
logging.getLogger("math_verify").setLevel(logging.ERROR)


def symbolic_verdict(answer: str, gold: Gold) -> Verdict:
    """RIGHT, WRONG or UNPARSABLE_GOLD, of an answer of which grading.quick_verdict could not tell. May never return."""
    result = is_gold(answer, gold, _judge)
    return Verdict.UNPARSABLE_GOLD if result is None else Verdict.RIGHT if result else Verdict.WRONG


def _judge(answer: str, gold: str, tolerance: Tolerance) -> bool | None:
    """Whether two expressions are equal; None if the gold cannot be read."""
    is_real = not (_IMAGINARY.search(answer) or _IMAGINARY.search(gold))
    truth = _expression(gold, is_real)
    if truth is None:
        return None
    said = _expression(answer, is_real)
    if said is None:
        return False
    if said == truth:
        return True
    if isinstance(said, sympy.Expr) and isinstance(truth, sympy.Expr):
        if said.free_symbols != truth.free_symbols:
            return False
        if not said.free_symbols:
            return _are_equal_numbers(said, truth, answer, gold, tolerance)
        return _agree_everywhere(said, truth, is_real)
    if isinstance(said, sympy.Rel) and isinstance(truth, sympy.Rel):
        if said.free_symbols != truth.free_symbols:
            return False
        if all(isinstance(side, sympy.Expr) for side in (*said.args, *truth.args)):
            if _are_proportional(said, truth):
                return True
            if _are_parallel(said, truth):
                return False  # verify takes a tenth of a second to find that out
    return verify(truth, said, timeout_seconds=0)


@lru_cache(maxsize=2**13)
def _expression(text: str, is_real: bool) -> sympy.Basic | None:
    """What the text says, decimals as fractions; None if it cannot be read or sympy might never finish with it."""
    text = _respelled(text)
    exponents = [power[0] for power in _EXPONENT.finditer(text)]
    size = math.prod(int(digits) for exponent in exponents for digits in re.findall(r"[1-9]\d*", exponent))
    if any(_EXPANDING.search(exponent) for exponent in exponents):
        return None
    if len(exponents) < text.count("^") or size > MAX_EXPONENT or len(_BRACKET.findall(text)) > MAX_BRACKETS:
        return None
    if _EXPANDING.search(text) and _LARGE.search(text):
        return None
    for reader in (_ShortSighted, _Latex2Sympy):
        try:
            return _exact(reader(is_real=is_real, config=_SETTINGS).parse(text), is_real)
        except Exception:  # the parser's, for text that is no LaTeX: it raises bare Exceptions, and many others
            continue
    return None


class _ShortSighted(_Latex2Sympy):
    """The parser, which predicts rules without looking at those around them: two thirds of the time.

    It finds the same tree or, sometimes where there is one, a syntax error (ANTLR's documentation of SLL).
    """

    def create_parser(self, latex_str: str) -> Parser:
        parser = super().create_parser(latex_str)
        parser._interp.predictionMode = PredictionMode.SLL
        return parser


def _exact(expression: object, is_real: bool) -> sympy.Basic | None:
    """What the parser read, with decimals as fractions and i, where it may be one, as the imaginary unit."""
    if isinstance(expression, sympy.MatrixBase):
        return expression.as_immutable()
    if not isinstance(expression, sympy.Basic):
        return None
    exact = {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)}
    if not is_real and isinstance(expression, sympy.Expr):
        exact |= {symbol: sympy.I for symbol in expression.free_symbols if symbol.name == "i"}
    return expression.xreplace(exact) if exact else expression


def _respelled(text: str) -> str:
    r"""The text as the parser wants it: sqrt(2) is \sqrt{2}, 2*3 is 2 \cdot 3."""
    text = _THOUSANDS.sub("", _BARE_COMMAND.sub(r"\\\1", text)).replace("*", r"\cdot ")
    text = _NAMED_SUBSCRIPT.sub(r"_{\1}", _SHORT_SUBSCRIPT.sub(r"_\1", text))
    text = _VECTOR.sub(r"\\vec{\1}", text.replace(r"\infinity", r"\infty").replace(r"\lg", r"\log_{10}"))
    for opening in (r"\sqrt(", r"\sqrt (", "^("):
        text = _braced(text, opening)
    text = _BARE_POWER.sub(r"^{\1}", text)
    text = _BARE_ROOT.sub(r"\\sqrt{\1}", text)
    if _TRIGONOMETRY.search(text):
        text = _ANGLE.sub(r"(\\frac{\1 \\pi}{180})", text)
    return text


def _braced(text: str, opening: str) -> str:
    """The text with braces for the parentheses that `opening` opens."""
    while (start := text.find(opening)) >= 0:
        depth, end = 1, start + len(opening)
        while end < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        inner = text[start + len(opening) : end - 1 if not depth else end]
        text = f"{text[:start]}{opening[:-1].strip()}{{{inner}}}{text[end:]}"
    return text


def _are_equal_numbers(said: sympy.Expr, truth: sympy.Expr, answer: str, gold: str, tolerance: Tolerance) -> bool:
    said, truth = said.doit(), truth.doit()
    if said == truth or (said.is_Rational and truth.is_Rational):
        return said == truth or _is_allowed(Fraction(str(said)), Fraction(str(truth)), answer, gold, tolerance)
    values = said.evalf(_DIGITS), truth.evalf(_DIGITS)
    if not all(value.is_number and value.is_finite for value in values):
        return verify(truth, said, timeout_seconds=0)
    distance = abs(values[0] - values[1])
    if distance <= (1 + abs(values[1])) * sympy.Float(10) ** (10 - _DIGITS):
        return True
    if not all(value.is_Float for value in values):
        return False
    return _is_allowed(Fraction(str(values[0])), Fraction(str(values[1])), answer, gold, tolerance)


def _is_allowed(said: Fraction, truth: Fraction, answer: str, gold: str, tolerance: Tolerance) -> bool:
    if tolerance.allows(said, truth, gold):
        return True
    shown = resolution(answer) if quantity(answer) else resolution(gold) if quantity(gold) else None
    return shown is not None and abs(said - truth) < shown


def _agree_everywhere(said: sympy.Expr, truth: sympy.Expr, is_real: bool) -> bool:
    """Whether two expressions in the same variables have one value at every point at which both have one."""
    points = 0
    for value, true_value in _values(said, truth, is_real):
        if abs(value - true_value) > abs(true_value) * sympy.Float("1e-20") + _NOTHING:
            return False
        points += 1
    return points > 0 or verify(truth, said, timeout_seconds=0)


def _are_proportional(said: sympy.Rel, truth: sympy.Rel) -> bool:
    """Whether one relation is the other with both sides multiplied by a constant, positive for inequalities."""
    (relation, difference), (true_relation, true_difference) = _zero_form(said), _zero_form(truth)
    if relation is not true_relation:
        return False
    ratios = [a / b for a, b in _values(difference, true_difference, True) if abs(b) > 1e-20]
    if len(ratios) < 2 or abs(ratios[0]) < 1e-20 or (relation in (sympy.Lt, sympy.Le) and ratios[0] < 0):
        return False
    return all(abs(ratio - ratios[0]) < abs(ratios[0]) * 1e-20 for ratio in ratios)


def _are_parallel(said: sympy.Rel, truth: sympy.Rel) -> bool:
    """Whether one equation is the other, both sides multiplied, but for a constant: nothing satisfies both."""
    if not (isinstance(said, sympy.Eq) and isinstance(truth, sympy.Eq)):
        return False
    points = list(_values(_zero_form(said)[1], _zero_form(truth)[1], True))
    if len(points) < len(_POINTS):
        return False
    (a, b), (c, d), *_ = points
    if min(abs(a - c), abs(b - d)) < 1e-20:
        return False
    factor = (a - c) / (b - d)
    constant = a - factor * b
    size = max(abs(value) for value, _ in points)
    return abs(constant) > size * 1e-15 and all(
        abs(value - factor * true_value - constant) < size * 1e-20 for value, true_value in points
    )


def _zero_form(relation: sympy.Rel) -> tuple[type, sympy.Expr]:
    """The relation as `difference <relation> 0`, > and >= turned around."""
    difference = sympy.Add(relation.lhs, -relation.rhs)
    if isinstance(relation, (sympy.Gt, sympy.Ge)):
        return (sympy.Lt if isinstance(relation, sympy.Gt) else sympy.Le), -difference
    return type(relation), difference


def _values(said: sympy.Expr, truth: sympy.Expr, is_real: bool) -> Iterator[tuple[sympy.Expr, sympy.Expr]]:
    """Both expressions' values at some points; none where one has no value, or no real one although all is real."""
    symbols = sorted(truth.free_symbols, key=str)
    for row in _POINTS:
        point = {
            symbol: sympy.Rational(row[place % len(row)]) + place // len(row) for place, symbol in enumerate(symbols)
        }
        values = said.evalf(30, subs=point), truth.evalf(30, subs=point)
        if all(value.is_number and value.is_finite for value in values) and not (
            is_real and any(abs(sympy.im(value)) > 1e-20 for value in values)
        ):
            yield values

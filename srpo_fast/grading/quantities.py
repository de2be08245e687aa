r"""Numbers with units, as exact fractions, and how near two of them have to be.

12 cm, 50%, $5, 30^\circ, 12 red apples, "Tom has 12 apples". A unit may be left out on either side but not exchanged,
and nothing is converted: 1 m is not 100 cm. A percentage is also the number it stands for (50% is 0.5), and its sign
may be left out of numbers from 1 on (50% is 50, 0.5% is not 0.5).
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from srpo_fast.grading.answer_text import words
from srpo_fast.grading.literals import DECIMAL, decimals, read_number, resolution
from srpo_fast.grading.units import ADJACENT, PERCENT, canonical_unit

_LOOSE_NUMBER = re.compile(rf"(?<![\w.,])[-+]?(?:{DECIMAL})(?!\d|[.,]\d)")
_OPERATOR = re.compile(r"[\\^=*/<>_|()\[\]{}+]|\d[:-]\d")
_QUALIFIED = re.compile(
    r"(?i)\b(?:not|never|than|least|most|between|under|over|above|below|except|without|or|to|nor|cannot|minus|negative"
    r"|plus|times|half|nearly|wrong|incorrect|false)\b|n't\b"
)
_CURRENCY = re.compile(
    r"(?P<sign>[-+]?) ?(?:US|USD)? ?(?P<currency>[$\N{EURO SIGN}\N{POUND SIGN}\N{YEN SIGN}]|Rs\.?) ?(?=[-\d.])"
)
_NEGATIVE = re.compile(r"(?:negative|minus) (?=[\d.])", re.IGNORECASE)
COUNTS = (  # each at its own place
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How near the gold's number an answer's has to be: near enough by any one of the three measures.

    MathVista's `precision` and MMMU's two places are `decimals`, OlympiadBench's `error` is `absolute`.
    """

    relative: float = 0.0  # a share of the gold
    absolute: float = 0.0
    decimals: int | Literal["gold"] | None = None  # both are rounded to so many, halves up; "gold": as many as it shows

    def allows(self, answer: Fraction, gold: Fraction, gold_text: str) -> bool:
        """Whether a number counts as the gold. The gold's text shows its decimals."""
        if answer == gold:
            return True
        if self.decimals is not None:
            places = decimals(gold_text) if self.decimals == "gold" else self.decimals
            if places is not None and _rounded(answer, places) == _rounded(gold, places):
                return True
        if not self.absolute and not self.relative:
            return False
        return abs(answer - gold) <= max(_exact(self.absolute), _exact(self.relative) * abs(gold))


EXACT = Tolerance()


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, its unit, and the other words of the phrase that it is read from."""

    value: Fraction
    text: str  # of the number alone
    unit: str = ""  # canonical (units.py); "" without one
    before: frozenset[str] = frozenset()  # words
    after: frozenset[str] = frozenset()

    def is_near(self, gold: "Quantity", tolerance: Tolerance) -> bool:
        """Whether this, an answer's, counts as the gold."""
        if not self._fits(gold):
            return False
        if PERCENT not in (self.unit, gold.unit) or self.unit == gold.unit:
            return tolerance.allows(self.value, gold.value, gold.text) or self._is_cut_from(gold)
        answer_share = self.value / (100 if self.unit else 1)
        gold_share = gold.value / (100 if gold.unit else 1)
        if tolerance.allows(answer_share, gold_share, gold.text):
            return True
        plain = gold.value if self.unit else self.value
        return abs(plain) >= 1 and tolerance.allows(self.value, gold.value, gold.text)

    def _is_cut_from(self, gold: "Quantity") -> bool:
        """One is a decimal of many digits and the other no decimal at all, but between it and the next."""
        shown = resolution(self.text), resolution(gold.text)
        if (shown[0] is None) == (shown[1] is None) or None not in (decimals(self.text), decimals(gold.text)):
            return False
        return abs(self.value - gold.value) < (shown[0] or shown[1] or 0)

    def _fits(self, gold: "Quantity") -> bool:
        """Whether the words around the numbers, units among them, do not contradict each other."""
        if not _agree(self.before, gold.before):
            return False
        if self.unit and gold.unit:
            return self.unit == gold.unit and _agree(self.after, gold.after)
        return _agree(self.after | {self.unit} - {""}, gold.after | {gold.unit} - {""})


@lru_cache(maxsize=2**14)
def quantity(text: str) -> Quantity | None:
    """The quantity that a normal form is; None if it is something else."""
    text = _NEGATIVE.sub("-", text, count=1)
    if text.casefold() in COUNTS:
        return Quantity(Fraction(COUNTS.index(text.casefold())), text)
    if currency := _CURRENCY.match(text):
        return _money(text, currency)
    number = read_number(text)
    if number is None:
        return _phrase(text)
    value, end = number
    rest, digits = text[end:], text[:end].strip()
    if not rest:
        return Quantity(value, digits)
    if not rest[0].isalpha() or rest in ADJACENT or rest.split("^")[0].split("/")[0].rstrip("23") in ADJACENT:
        unit = canonical_unit(rest.strip(" ()"))
        if unit is not None:
            return Quantity(value, digits, unit)
    return _measured(value, digits, rest) if rest[0] == " " else None


def _money(text: str, currency: re.Match[str]) -> Quantity | None:
    number = read_number(text, currency.end())
    unit = canonical_unit(currency["currency"]) or ""
    if number is None or canonical_unit(text[number[1] :].strip()) not in ("", unit):
        return None
    value = -number[0] if currency["sign"] == "-" else number[0]
    return Quantity(value, text[currency.end() : number[1]], unit)


def _measured(value: Fraction, digits: str, rest: str) -> Quantity | None:
    """A number with words after it, the first of which may be a unit ("12 cm long")."""
    if _OPERATOR.search(rest) or _QUALIFIED.search(rest) or any(c.isdigit() for c in rest):
        return None
    tokens = rest.split()
    if all(len(token) == 1 for token in tokens):
        return None  # 2 x y
    unit = canonical_unit(tokens[0]) or "" if tokens[0] not in ("in", "a") else ""
    return Quantity(value, digits, unit, after=_word_set(" ".join(tokens[1:] if unit else tokens)))


def _phrase(text: str) -> Quantity | None:
    """The only number of a phrase without operators ("Tom has 12 apples")."""
    number = _LOOSE_NUMBER.search(text)
    if number is None or _LOOSE_NUMBER.search(text, number.end()) or _QUALIFIED.search(text):
        return None
    before, rest = text[: number.start()], text[number.end() :]
    if _OPERATOR.search(before) or not before.endswith((" ", "$")) or not re.search(r"[^\W\d_]{2,}", before):
        return None
    value, digits = Fraction(number[0].replace(",", "")), number[0]
    unit = canonical_unit("$" if before.endswith("$") else rest.strip())
    if unit is not None:
        return Quantity(value, digits, unit, before=_word_set(before))
    if rest[0] != " " or (measured := _measured(value, digits, rest)) is None:
        return None
    return Quantity(value, digits, measured.unit, before=_word_set(before), after=measured.after)


def _word_set(text: str) -> frozenset[str]:
    """The words of a phrase, one form for singular and plural."""
    return frozenset(word.removesuffix("s") if len(word) > 3 else word for word in words(text).split())


def _agree(some: frozenset[str], others: frozenset[str]) -> bool:
    """Whether one says no more than the other does."""
    return some <= others or others <= some


def _rounded(value: Fraction, places: int) -> int:
    """In units of the last place; halves go away from zero."""
    scaled = abs(value) * 10**places
    return math.floor(scaled + Fraction(1, 2)) * (1 if value >= 0 else -1)


@lru_cache(maxsize=64)
def _exact(number: float) -> Fraction:
    """0.01 as a hundredth, not as the float next to it."""
    return Fraction(repr(float(number)))

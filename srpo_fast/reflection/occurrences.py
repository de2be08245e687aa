"""Where a text says a given value: as a word, a choice letter, a number or an expression, however it is written.

12, 12.0, twelve, \\frac{24}{2} and 1,200% are one number; \\sqrt{3}/2 and (sqrt 3)/2 one expression.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from srpo_fast.grading.quantities import COUNTS

Span = tuple[int, int]

_REWRITES = [  # LaTeX and typography -> plain characters; the innermost braces first, see plain()
    (re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf|mathit|operatorname)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"(\d)\s*\\[dt]?frac"), r"\1 \\frac"),
    (re.compile(r"\\[dt]?frac\s*(\d)(\d)(?!\d)"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s*\{(\w+)\}\s*\{(\w+)\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"sqrt(\1)"),
]
_SYMBOLS = [
    (re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])|\$"), ""),
    (re.compile(r"(?<=\d)(?:\{,\}|\\,|[\u00a0\u2009\u202f])(?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\[,;:! ]|~|[\u00a0\u2009\u202f]"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?"), "\N{DEGREE SIGN}"),
    (re.compile(r"\\(?:cdot|times)(?![A-Za-z])|[\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}]"), "*"),
    (re.compile(r"\\pi(?![A-Za-z])|\N{GREEK SMALL LETTER PI}"), "pi"),
    (re.compile("\N{SQUARE ROOT}|\\\\sqrt(?![A-Za-z{])"), "sqrt "),
    (re.compile(r"\N{MINUS SIGN}|\b(?:minus|negative)\s+(?=\d)"), "-"),
    (re.compile(r"[\N{RIGHT SINGLE QUOTATION MARK}]"), "'"),
]

_QUANTITY = (
    r"(?<![\w.])(?P<sign>(?<![\w)\]}])[-+])?"
    r"(?:(?P<mixed>\d{1,40})\s+(?=\d+\s*/\s*\d))?"
    r"(?P<whole>\d{1,3}(?:,\d{3}){1,12}(?!\d)|\d{1,40}|(?=\.\d))(?P<decimals>\.\d{1,40})?"
    r"(?:\s*/\s*(?P<under>\d{1,40}))?(?P<percent>\s*%)?"
)
# not the start of a longer number, an ordinal or a coefficient: 1.5, 2nd, 2x; but 12cm
_NUMBER = re.compile(_QUANTITY + r"(?![\d_]|[.,]\d|/\d|(?:st|nd|rd|th)\b|[A-Za-z](?![A-Za-z]))")
_UNIT = (
    r"(?:\s*+(?:%|\N{DEGREE SIGN}\s?[CF]?|[mgsNJWVAKLCFh](?![A-Za-z])|[A-Za-z]{2,}+\.?)"
    r"(?:\^?\{?[23\u00b2\u00b3]\}?)?+(?:\s?/\s?[A-Za-z]++)?+)*+"
)
_MEASURE = re.compile(rf"(?:[\u20ac\u00a3]\s*)?{_QUANTITY}{_UNIT}")
# numbers that count parts of a text: "2." at the start of a line, "(2)", "step 2"
_ENUMERATION = re.compile(
    r"^[ \t]*[(\[]?\d{1,2}[.)\]:](?=\s)|(?<![\w)])\(\d\)(?=\s[A-Za-z])"
    r"|\b(?:steps?|lines?|equations?|eqs?\.?|figures?|fig\.?|parts?|points?|cases?|paragraphs?|issues?|flaws?)"
    r"\s*[(#]?\d{1,2}(?:\s*(?:,|and|to|-)\s*\d{1,2})*\)?",
    re.IGNORECASE | re.MULTILINE,
)
_CHOICE = re.compile(r"\(?([A-J])[).:]?|\(([a-j])\)")
_SHY_WORD = re.compile(r"yes|no|true|false|none|all|both|neither|equal|same|one|more|less|\W*[^\W\d]\W*", re.IGNORECASE)
_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:\.\d+)?|[^\s\w(){}\[\]\\*]")
_FILLER = r"[\s(){}\[\]\\*]*"
_TUPLE = re.compile(r"[(\[].*,.*[)\]]")


@dataclass(frozen=True, slots=True)
class Value:
    """A value to look for, made by `read_value`."""

    kind: Literal["choice", "number", "phrase"]
    pattern: re.Pattern[str]  # of its text
    is_shy: bool  # so common a word or letter that it means this value only where it is said to be one
    numbers: frozenset[Fraction] = frozenset()  # as it stands, and as a part of 1 where it is a percentage
    word: str | None = None  # a small number's name, which is used for much else

    def spans(self, text: str) -> list[Span]:
        """Where `text`, which has gone through `plain`, says the value."""
        found = [match.span() for match in self.pattern.finditer(text)]
        if self.numbers:
            found += [match.span() for match in _NUMBER.finditer(text) if _values(match) & self.numbers]
        return found

    def spans_of_word(self, text: str) -> list[Span]:
        """Where it says the number's name."""
        pattern = rf"\b{self.word}\b" if self.word else r"(?!)"
        return [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]


def read_value(gold: str) -> Value | None:
    """What to look for when `gold` is the ground truth; None: it says nothing."""
    text = plain(gold).strip().removesuffix(".").strip()
    if choice := _CHOICE.fullmatch(text):
        letter = (choice[1] or choice[2]).upper()
        return Value("choice", re.compile(rf"(?<![\w'])\(?{letter}\)?(?![\w'])"), is_shy=True)
    tokens = _TOKEN.findall(text)
    if not tokens:
        return None
    phrase = _phrase(text, tokens)
    if measure := _MEASURE.fullmatch(text):
        numbers = _values(measure)
        words = [word for number, word in enumerate(COUNTS) if number in numbers]
        return Value("number", phrase, is_shy=False, numbers=numbers, word=words[0] if words else None)
    return Value("phrase", phrase, is_shy=bool(_SHY_WORD.fullmatch(text)))


def plain(text: str) -> str:
    """The text without LaTeX: fractions as a/b, roots as sqrt(x), thousands with commas; numbers of list items gone."""
    for symbol, character in _SYMBOLS:
        text = symbol.sub(character, text)
    changed = True
    while changed:  # from the innermost braces outwards; every rewrite takes a command away
        before = text
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)
        changed = text != before
    return _ENUMERATION.sub(" ", text)


def _values(match: re.Match[str]) -> frozenset[Fraction]:
    number = Fraction((match["whole"].replace(",", "") or "0") + (match["decimals"] or ""))
    if match["under"]:
        if not int(match["under"]):
            return frozenset()
        number /= int(match["under"])
    number += int(match["mixed"] or 0)
    number = -number if match["sign"] == "-" else number
    return frozenset({number, number / 100} if match["percent"] else {number})


def _phrase(text: str, tokens: list[str]) -> re.Pattern[str]:
    body = _FILLER.join(re.escape(token) for token in tokens)
    if _TUPLE.fullmatch(text):
        body = rf"[(\[]\s*{body}\s*[)\]]"
    before = r"(?<![\w.-])" if tokens[0].isdigit() else r"(?<![\w.])"  # -3 is not 3
    return re.compile(rf"{before}{body}(?!\w|\.\d)", re.IGNORECASE)

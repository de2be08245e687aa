r"""The normal form of an answer's text, in which the same thing is written the same way.

LaTeX's many spellings of one thing (\dfrac, \left(, \text{cm}, $..$), Unicode's (minus signs, superscripts, full-width
digits) and a writer's frame ("The answer is ...") go; what is said stays. All of it takes time linear in the text.
"""

import re
import unicodedata

_TAG = re.compile(r"</?(?:think|answer|reflection)>")
_BOLD = re.compile(r"(?<![\w)])\*\*([^*]+)\*\*(?![\w(])")
_THIN_SPACES = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}"
_THOUSANDS = re.compile(rf"(?<=\d)(?:\{{,\}}|,?\\[!,]|[{_THIN_SPACES}])(?=\d{{3}}(?!\d))")
_UNIT_LETTER = re.compile(
    r"(?:(?<=[\d})])|(?<=\\pi))(?:\s|~|\\[ ,;:])*\\(?:text|mathrm)\s*\{[\s~]*([mgshLlNJWVAK])\s*\}"
)
_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|sf)?|math(?:rm|bf|it|sf|bb(?=\s*\{[^R]))|mbox|operatorname\*?|bm)\s*\{([^{}]*)\}"
)
_BOX = re.compile(r"\\f?box(?:ed)?\s*(?=\{)")
_NOISE = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?)(?=\s*(?:[()\[\]|.]|\\[{}|]|\\[lr](?:angle|vert|brace|brack|floor|ceil)))\.?"
    r"|\\(?:displaystyle|textstyle|limits|boldsymbol)(?![A-Za-z])"
)
_SPACE = re.compile(r"(?<!\\)\\[ ,;:!]|~|\\q?quad(?![A-Za-z])|(?<!\\)\\[()\[\]]|[\s\N{ZERO WIDTH SPACE}]+")
_SPELLINGS = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac ?(\d) ?(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac ?(\d) ?(?=\{)"), r"\\frac{\1}"),
    (re.compile(r"(\\frac ?\{[^{}]*\}) ?(\d)"), r"\1{\2}"),
    (re.compile(r"\\frac \{"), r"\\frac{"),
    (re.compile(r"\\l(?:eq?(?:slant)?|t)(?![A-Za-z])"), lambda m: "<" if m[0] == r"\lt" else "<="),
    (re.compile(r"\\g(?:eq?(?:slant)?|t)(?![A-Za-z])"), lambda m: ">" if m[0] == r"\gt" else ">="),
    (re.compile(r"\\(?:degree|deg)(?![A-Za-z])"), r"^\\circ"),
    (re.compile(r"(?:\{ ?\} ?)?\^ ?\{ ?\\circ ?\}|(?:\{ ?\} ?\^|\^ )\\circ"), r"^\\circ"),
    (re.compile(r"\^ ?\{ ?\^\\circ ?\}"), r"^\\circ"),
    (re.compile(r"\^\\circ ?([CF])(?![A-Za-z])"), lambda m: " celsius" if m[1] == "C" else " fahrenheit"),
    (re.compile(r"\\(?:approx|thickapprox|simeq|doteq|coloneqq)(?![A-Za-z])"), "="),
    (re.compile(r"\\(?:varnothing|emptyset)(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\(?:geqq|leqq)(?![A-Za-z])"), lambda m: ">=" if m[0][1] == "g" else "<="),
    (re.compile(r"\\neq(?![A-Za-z])"), r"\\ne"),
    (re.compile(r"\\(?:lbrace|rbrace)(?![A-Za-z])"), lambda m: r"\{" if m[0][1] == "l" else r"\}"),
    (re.compile(r"\\(?:overline|overrightarrow|widehat) ?\{([A-Z]+)\}"), r"\1"),
    (re.compile(r" \^ ?|\^ "), "^"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\^ ?(?:\{ ?\\prime ?\}|\\prime(?![A-Za-z]))"), "'"),
    (re.compile(r"\*\*"), "^"),
)
_FRAME = re.compile(
    r"(?i)(?:(?:so|thus|hence|therefore|and|it follows that),? )?"
    r"(?:the |my |our )?(?:(?:final|correct|right|best|required) )?(?:answer|solution|result)"
    r"(?: to (?:the|this) (?:question|problem))?(?: is:?|:| =) ?"
    r"|(?:so|thus|hence|therefore),? "
    r"|(?:=|:|(?:approximately|about|roughly|around|exactly)(?= ?[-\d\\.$])) ?"
)
_FRACTION = re.compile("[\u00bc-\u00be\u2150-\u215e]")  # one half, two fifths
_RAISED = re.compile("[\u00b2\u00b3\u00b9\u2070-\u207f]+")  # superscripts: digits, signs, parentheses, n and i
_LOWERED = re.compile("[\u2080-\u209c]+")
_UNICODE = str.maketrans(
    {
        **{unicodedata.lookup(f"GREEK SMALL LETTER {name}"): f"\\{name.lower()} " for name in
           ("ALPHA", "BETA", "GAMMA", "DELTA", "THETA", "PI", "PHI", "OMEGA", "RHO", "SIGMA", "TAU")},
        **dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{SMALL HYPHEN-MINUS}", "-"),
        **dict.fromkeys("\N{MULTIPLICATION SIGN}", r"\times "),
        **dict.fromkeys("\N{MIDDLE DOT}\N{DOT OPERATOR}", r"\cdot "),
        **dict.fromkeys("\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}", '"'),
        **dict.fromkeys("\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}\N{PRIME}", "'"),
        "\N{DIVISION SIGN}": "/", "\N{FRACTION SLASH}": "/", "\N{RATIO}": ":",
        "\N{DEGREE SIGN}": r"^\circ", "\N{MASCULINE ORDINAL INDICATOR}": r"^\circ",
        "\N{DEGREE CELSIUS}": r"^\circ C", "\N{DEGREE FAHRENHEIT}": r"^\circ F",
        "\N{SQUARE ROOT}": r"\sqrt ", "\N{INFINITY}": r"\infty ", "\N{PLUS-MINUS SIGN}": r"\pm ",
        "\N{UNION}": r"\cup ", "\N{ELEMENT OF}": r"\in ", "\N{EMPTY SET}": r"\emptyset ",
        "\N{LESS-THAN OR EQUAL TO}": "<=", "\N{GREATER-THAN OR EQUAL TO}": ">=", "\N{NOT EQUAL TO}": r"\ne ",
        "\N{ALMOST EQUAL TO}": "=", "\N{ANGLE}": r"\angle ", "\N{WHITE UP-POINTING TRIANGLE}": r"\triangle ",
        "\N{PARALLEL TO}": r"\parallel ", "\N{UP TACK}": r"\perp ",
        "\N{IDEOGRAPHIC FULL STOP}": ".", "\N{IDEOGRAPHIC COMMA}": ",",
    }
)  # fmt: skip
_FULL_UNITS = {"m": "meter", "g": "gram", "s": "second", "h": "hour", "L": "liter", "l": "liter", "N": "newton",
    "J": "joule", "W": "watt", "V": "volt", "A": "ampere", "K": "kelvin"}  # fmt: skip

_WORDED = {
    "infinity": r"\infty", "positive infinity": r"\infty", "negative infinity": r"-\infty", "half": "1/2",
    "one half": "1/2", "a half": "1/2", "one third": "1/3", "two thirds": "2/3", "one quarter": "1/4",
    "one fourth": "1/4", "three quarters": "3/4", "three fourths": "3/4", "one fifth": "1/5",
}  # fmt: skip

# kinds of text
_COMMAND = re.compile(r"\\(?:begin|end) ?\{\w+\}|\\[A-Za-z]+")
_FUNCTION = re.compile(
    r"(?<![A-Za-z])(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?(?![a-z])|(?<![A-Za-z])(?:log|ln|exp|sqrt|det|max|min|gcd|lcm"
    r"|pi|infinity|alpha|beta|gamma|delta|theta|omega)(?![a-z])"
)
_NAME = re.compile(r"[^\W\d_][^\d\\^=+*/<>|{}]*")  # letters and no operator: words, never a product of variables
_WORD = re.compile(r"[^\W\d_]{3,}")
_LETTERS = re.compile(r"[^\W\d_]")
# three or four variables written without blanks: the mgR of \frac{mgR}{2}; \0 stands for a command
_PRODUCT = re.compile(r"(?:(?<![^\d{}^_=+*/\0])|(?<=[\0}] ))[A-Za-z]{3,4}(?= ?\0|[\d{}^_=+*/]|$)")
_PUNCTUATION = re.compile(r"[\s\-_,.;:!?'\"`()]+")
_EXCLAMATION = re.compile(r"(?<=[^\W\d_]{2})!$")  # no factorial
_ARTICLE = frozenset({"the", "a", "an"})


def normalized(text: str) -> str:
    """The normal form; empty where the text says nothing."""
    text = _TAG.sub("", text)
    if not text.isascii():
        text = _without_unicode(text)
    if "**" in text:
        text = _BOLD.sub(r"\1", text)
    if "\\" in text or "{,}" in text:
        text = _without_latex_noise(text)
    text = _without_dollars(text)
    text = " ".join(_SPACE.sub(" ", text).split())
    if "\\" in text or "*" in text or "^" in text:
        for pattern, replacement in _SPELLINGS:
            text = pattern.sub(replacement, text)
    text = _bare(text)
    if frame := _FRAME.match(text):
        text = _bare(text[frame.end() :])
    return _WORDED.get(text.casefold().replace("-", " "), text) if len(text) < 20 else text


def is_name(text: str) -> bool:
    """Whether a normal form is letters without an operator: a word, a letter, words."""
    return _NAME.fullmatch(text) is not None


def is_prose(text: str) -> bool:
    """Whether a normal form says something in words, so that it is no mathematical expression."""
    rest = _FUNCTION.sub(" ", _COMMAND.sub(" ", text))
    return _WORD.search(rest) is not None or (rest == text and is_name(text))


def is_product(text: str) -> bool:
    r"""Whether what could be words in a normal form are products of variables, as in \frac{mgR}{2} and 2mgh."""
    rest = _FUNCTION.sub("\0", _COMMAND.sub("\0", text))
    has_mathematics = rest != text or any(character.isdigit() for character in text)
    return has_mathematics and _WORD.search(_PRODUCT.sub(" ", rest)) is None


def variables(text: str) -> frozenset[str]:
    """The letters of an expression that are no constant, function or command."""
    letters = set(_LETTERS.findall(_FUNCTION.sub(" ", _COMMAND.sub(" ", text))))
    return frozenset(letters - {"e", "i"})


def words(text: str) -> str:
    """What of a normal form counts where words are compared: neither case, articles nor punctuation."""
    tokens = _PUNCTUATION.sub(" ", text.casefold()).split()
    sign = "-" if text.startswith("-") else ""
    return sign + " ".join([token for token in tokens if token not in _ARTICLE] or tokens)


def group_end(text: str, start: int) -> int:
    """The place of the brace that closes the one at `start`; -1 if none does."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "{}" and text[place - 1 : place] != "\\":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return place
    return -1


def _without_unicode(text: str) -> str:
    """The text with LaTeX for signs that have some. What is left of compatibility forms are plain characters."""
    text = _FRACTION.sub(lambda sign: rf"\frac{{{_plain(sign[0])}}}".replace("\N{FRACTION SLASH}", "}{"), text)
    text = _RAISED.sub(lambda run: "^" + _group(_plain(run[0])), text)
    text = _LOWERED.sub(lambda run: "_" + _group(_plain(run[0])), text)
    return _plain(_THOUSANDS.sub(",", text).translate(_UNICODE))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _group(text: str) -> str:
    return text if len(text) == 1 else f"{{{text}}}"


def _without_latex_noise(text: str) -> str:
    text = _THOUSANDS.sub(",", text)
    text = _UNIT_LETTER.sub(lambda unit: f" {_FULL_UNITS[unit[1]]} ", text)
    for _ in range(3):  # \textbf{\text{..}} and the like
        text, count = _WRAPPED.subn(r" \1 ", text)
        if not count:
            break
    if box := _BOX.search(text):
        end = group_end(text, box.end())
        inner, rest = (text[box.end() + 1 : end], text[end + 1 :]) if end >= 0 else (text[box.end() + 1 :], "")
        text = f"{text[: box.start()]} {inner}{rest}"
    return _NOISE.sub("", text)


def _without_dollars(text: str) -> str:
    r"""The text without the signs that delimit mathematics; one before a sum of money stays, or becomes one from \$."""
    if "$" not in text:
        return text
    text = text.replace(r"\$", "\0")
    if text.count("$") % 2:
        text = re.sub(r"\$(?= ?[\d.])", "\0", text, count=1)
    return text.replace("$", " ").replace("\0", " $")


def _bare(text: str) -> str:
    """The text without what surrounds it: blanks, quotation marks, a final period or comma."""
    text = _EXCLAMATION.sub("", text.strip(' "`').rstrip(" .,;"))
    if len(text) > 1 and text[0] == "'" == text[-1]:
        text = text[1:-1]
    return text.strip()

r"""The exact value of a number as it is written: 1,234.5, .5, 1.5e3, 1.5 \times 10^3, 1/2, 2\frac{1}{2}, 0.\dot{3}.

1.234,5 is not guessed at: it is no number. 1,234 is one number, 1, 234 and 1,23 are two.
"""

import re
from fractions import Fraction

MAX_EXPONENT = 400
MAX_DIGITS = 400

DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+"
_SIGN = r"(?P<sign>[-+]?) ?"
_END = r"(?![.,]?\d)"
_POWER = r"\^ ?\{? ?\(?(?P<power>[-+]?\d{1,4})\)? ?\}?"
_SIGNED = rf"[-+]? ?(?:{DECIMAL})"
_PLAIN = re.compile(rf"{_SIGN}(?P<number>{DECIMAL}|\d+\.(?!\d)){_END}")
_FORMS = (
    re.compile(rf"{_SIGN}(?P<whole>\d+) ?\\frac\{{ ?(?P<top>\d+) ?\}}\{{ ?(?P<bottom>\d+) ?\}}{_END}"),
    re.compile(rf"{_SIGN}(?P<whole>\d+) (?P<top>\d+) ?/ ?(?P<bottom>\d+){_END}"),
    re.compile(rf"{_SIGN}\\frac\{{ ?(?P<upper>{_SIGNED}) ?\}}\{{ ?(?P<lower>{_SIGNED}) ?\}}{_END}"),
    re.compile(rf"{_SIGN}(?P<number>{DECIMAL}) ?(?:\\times|\\cdot|\*|x|X) ?10 ?{_POWER}{_END}"),
    re.compile(rf"{_SIGN}(?P<number>10) ?(?P<ten>){_POWER}{_END}"),
    re.compile(rf"{_SIGN}(?P<number>{DECIMAL})[eE](?P<power>[-+]?\d{{1,4}})(?!\w){_END}"),
    re.compile(rf"{_SIGN}(?P<upper>{DECIMAL}) ?/ ?(?P<lower>{DECIMAL}){_END}"),
    re.compile(rf"{_SIGN}\((?P<upper>[-+]?\d+)\) ?/ ?(?P<lower>\d+){_END}"),
    re.compile(rf"{_SIGN}(?P<head>\d*)\.(?P<fixed>\d*)\\(?:overline|dot) ?\{{(?P<repeated>\d+)\}}{_END}"),
    _PLAIN,
)


def read_number(text: str, start: int = 0) -> tuple[Fraction, int] | None:
    """The number that begins at `start`, as long as it goes, and where it ends."""
    if len(text) - start <= MAX_DIGITS and (plain := _PLAIN.fullmatch(text, start)):
        return _signed(plain, _decimal(plain["number"])), plain.end()
    for form in _FORMS:
        if number := form.match(text, start):
            value = _value(number)
            return None if value is None else (value, number.end())
    return None


def decimals(text: str) -> int | None:
    """How many digits a decimal or whole number shows behind its point; None of any other text."""
    shown = _PLAIN.fullmatch(text)
    return len(shown["number"].partition(".")[2]) if shown else None


def resolution(text: str) -> Fraction | None:
    """One unit of the last place of a decimal with six significant digits or more; None of any other text."""
    shown = _PLAIN.fullmatch(text)
    digits = shown["number"].replace(",", "") if shown else ""
    if "." not in digits or len(digits.replace(".", "").lstrip("0")) < 6:
        return None
    return Fraction(1, 10 ** len(digits.partition(".")[2]))


def _value(number: re.Match[str]) -> Fraction | None:
    if len(number[0]) > MAX_DIGITS:
        return None
    found = number.groupdict()
    if "whole" in found:
        top, bottom = int(found["top"]), int(found["bottom"])
        return _signed(number, int(found["whole"]) + Fraction(top, bottom)) if bottom else None
    if "upper" in found:
        upper, lower = _decimal(found["upper"]), _decimal(found["lower"])
        return _signed(number, upper / lower) if lower else None
    if "repeated" in found:
        head, fixed, repeated = found["head"], found["fixed"], found["repeated"]
        nines = (10 ** len(repeated) - 1) * 10 ** len(fixed)
        return _signed(number, Fraction(int(head + fixed or "0"), 10 ** len(fixed)) + Fraction(int(repeated), nines))
    if "power" not in found:
        return _signed(number, _decimal(found["number"]))
    power = int(found["power"])
    if abs(power) > MAX_EXPONENT:
        return None
    return _signed(number, Fraction(10) ** power * (1 if "ten" in found else _decimal(found["number"])))


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", "").removesuffix("."))


def _signed(number: re.Match[str], value: Fraction) -> Fraction:
    return -value if number["sign"] == "-" else value

"""The unit that a text names, in one spelling, so that cm, centimetres and \\text{cm} are the same. No conversion."""

import re
from functools import lru_cache

PERCENT = "%"

_SPELLINGS = {
    "m": "m meter meters metre metres mtr", "cm": "cm centimeter centimeters centimetre centimetres cms",
    "mm": "mm millimeter millimeters millimetre millimetres", "dm": "dm decimeter decimeters decimetre decimetres",
    "km": "km kilometer kilometers kilometre kilometres kms", "um": "um \\mum micrometer micrometers micron microns",
    "Mm": "Mm megameter megameters megametre megametres", "nm": "nm nanometer nanometers nanometre nanometres",
    "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mi mile miles",
    "g": "g gram grams gm gms", "kg": "kg kilogram kilograms kgs kilo kilos", "mg": "mg milligram milligrams",
    "t": "ton tons tonne tonnes", "lb": "lb lbs pound pounds", "oz": "oz ounce ounces",
    "s": "s sec secs second seconds", "ms": "ms millisecond milliseconds", "us": "us \\mus microsecond microseconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours", "day": "day days", "week": "week weeks wk", "month": "month months",
    "year": "year years yr yrs",
    "L": "L l liter liters litre litres", "mL": "mL ml milliliter milliliters millilitre millilitres",
    "gal": "gal gallon gallons", "ha": "ha hectare hectares", "acre": "acre acres",
    "N": "N newton newtons", "J": "J joule joules", "kJ": "kJ kilojoule kilojoules", "W": "W watt watts",
    "kW": "kW kilowatt kilowatts", "MW": "MW megawatt megawatts", "mW": "mW milliwatt milliwatts",
    "kWh": "kWh", "V": "V volt volts", "kV": "kV", "mV": "mV",
    "A": "A amp amps ampere amperes", "mA": "mA milliampere milliamperes", "ohm": "ohm ohms Ohm \\Omega",
    "K": "K kelvin kelvins", "Pa": "Pa pascal pascals", "kPa": "kPa", "MPa": "MPa", "atm": "atm", "Hz": "Hz hertz",
    "kHz": "kHz", "MHz": "MHz", "mHz": "mHz", "Mg": "Mg megagram megagrams",
    "T": "T tesla", "mol": "mol mole moles", "eV": "eV", "cal": "cal calorie calories",
    "kcal": "kcal", "mph": "mph", "rad": "rad radian radians",
    "deg": "^\\circ degree degrees deg degs", "celsius": "celsius centigrade", "fahrenheit": "fahrenheit",
    "%": "% percent percentage pct", "usd": "$ dollar dollars usd", "eur": "\N{EURO SIGN} euro euros eur",
    "gbp": "\N{POUND SIGN}", "jpy": "\N{YEN SIGN} yen yuan cny rmb", "inr": "Rs Rs. rupee rupees",
    "cent": "cent cents",
}  # fmt: skip
_EXACT = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_CASELESS = {spelling.casefold(): unit for spelling, unit in reversed(_EXACT.items()) if len(spelling) > 1}
_NEUTRAL = frozenset({"unit", "units"})  # of nothing in particular: as if left out

# right after a number they are units all the same; 2mg and 2hr may be products
ADJACENT = frozenset(_EXACT) - {
    "mg", "ml", "hr", "mi", "in", "t", "h", "rad", "ms", "min", "ha", "um", "nm", "cal", "atm", "s", "g", "L", "l", "N",
    "J", "W", "V", "A", "K", "T",
}  # fmt: skip
# likewise, after an expression
_AFTER_EXPRESSION = re.compile(
    r"(?:(?<=[\d})]) ?(?:cm|mm|km|dm|kg)| [A-Za-z%^\\][^ ]*(?: ?(?:/|per) ?[A-Za-z]+)?)(?:\^\{?\d\}?)?$"
)
_SIGN = "[%$\N{EURO SIGN}\N{POUND SIGN}\N{YEN SIGN}]"
_TOKEN = re.compile(
    r" ?(?:(?P<power>\^ ?\{? ?(-?\d) ?\}?(?!\\))|(?P<over>/|per(?![A-Za-z]))|(?P<times>\\cdot|\\times|\*|-(?=[A-Za-z]))"
    r"|(?P<area>(?:sq|square|cu|cubic)\.?(?![A-Za-z]))"
    rf"|(?P<name>\^\\circ|\\Omega|\\mu ?[A-Za-z]|Rs\.|[A-Za-z]+|{_SIGN})(?P<digit>[23](?!\d))?)"
)
_DIVISOR = re.compile(r"/ ?\(")  # everything after a stroke divides, brackets or not
_MAX_TOKENS = 12


@lru_cache(maxsize=2**12)
def canonical_unit(text: str) -> str | None:
    """The unit in its one spelling, "" for `units` and nothing; None if the text is no unit."""
    powers: dict[str, int] = {}
    place, sign, next_power, last, is_neutral = 0, 1, 1, "", False
    text = _DIVISOR.sub("/", text).rstrip(") ") if "/" in text else text
    for _ in range(_MAX_TOKENS):
        if place == len(text):
            break
        token = _TOKEN.match(text, place)
        if token is None:
            return None
        place = token.end()
        if token["power"]:
            if not last and is_neutral:
                continue
            if not last:
                return None
            powers[last] = powers[last] // abs(powers[last]) * int(token[2])
        elif token["over"]:
            sign = -1
        elif token["area"]:
            next_power = 2 if token["area"].startswith("sq") else 3
        elif token["name"] in ("squared", "cubed"):
            if not last:
                return None
            powers[last] *= 2 if token["name"] == "squared" else 3
        elif token["name"]:
            name = token["name"].replace(" ", "")
            if name.casefold() in _NEUTRAL:
                last, next_power = "", 1
                is_neutral = True
                continue
            last = _EXACT.get(name) or _CASELESS.get(name.casefold()) or ""
            if not last or last in powers:
                return None
            powers[last] = sign * next_power * int(token["digit"] or 1)
            next_power = 1
    else:
        return None
    if next_power != 1:
        return None
    if powers.keys() & {"celsius", "fahrenheit"}:
        powers.pop("deg", None)
    return " ".join(unit if power == 1 else f"{unit}^{power}" for unit, power in sorted(powers.items()))


def split_unit(text: str) -> tuple[str, str]:
    r"""An expression and the unit after it ("2\sqrt{3} cm"); the text and "" if there is none."""
    if match := _AFTER_EXPRESSION.search(text):
        unit = canonical_unit(match[0].strip())
        if unit and match.start() and len(match[0].strip()) > 1:
            return text[: match.start()].strip(), unit
    return text, ""

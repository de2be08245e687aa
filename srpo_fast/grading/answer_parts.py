r"""What an answer is made of: the items of a list, set, tuple, interval, ratio or matrix, the sides of an equation.

1, 2 and 3; \{1, 2\}; (1, 2); [1, 2); 3:4; x = 5; 1 < x <= 2 (an interval, of x); x \in (1, 2); A \cup B; \pm 2 (two);
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}; 3 hours 20 minutes (a list)
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from srpo_fast.grading.answer_text import words

MAX_ITEMS = 64  # longer lists are compared as texts


class Shape(StrEnum):
    LIST = "list"  # in any order
    SET = "set"  # in any order, each once
    TUPLE = "tuple"  # also an open interval
    CLOSED = "closed"  # [a, b], also a list in brackets
    RIGHT_OPEN = "right_open"  # [a, b)
    LEFT_OPEN = "left_open"  # (a, b]
    UNION = "union"  # of intervals, in any order
    RATIO = "ratio"
    MATRIX = "matrix"  # row after row; the name is its dimensions
    EQUATION = "equation"  # the last side alone; the name is the first


@dataclass(frozen=True, slots=True)
class Parts:
    shape: Shape
    items: tuple[str, ...]
    name: str = ""  # what is said to have the value, as the x of x = 5 and of x < 5; "" if nothing is


@dataclass(frozen=True, slots=True)
class _Separator:
    kind: str  # a group of _TOKEN
    start: int
    end: int
    sign: str


_CLOSING = {"(": ")]", "[": "])", "{": "}"}
_SHAPES = {"()": Shape.TUPLE, "[]": Shape.CLOSED, "[)": Shape.RIGHT_OPEN, "(]": Shape.LEFT_OPEN, "{}": Shape.SET}
_TOKEN = re.compile(
    r"(?P<open>\\?[{]|[(\[])|(?P<close>\\?[}]|[)\]])|(?P<union>\\cup(?![A-Za-z]))|\\[A-Za-z]+|\\."
    r"|(?P<item>,(?!\d{3}(?!\d))|(?<=\D),|;|(?<![A-Za-z])(?:and|or)(?![A-Za-z]))|(?P<thousand>,)"
    r"|(?P<relation>[<>]=?)|(?P<equals>(?<![!:])=)|(?P<colon>:(?!=))",
    re.IGNORECASE,
)
_BRACKETED_ARRAY = re.compile(r"[\[(] ?(\\begin ?\{array\}[^$]*\\end ?\{array\}) ?[\])]")
_MATRIX = re.compile(r"\\begin ?\{([pbBsv]?matrix|array|cases|aligned)\}(?: ?\{[lcr| ]*\})?(.*)\\end ?\{\1\}")
_MEMBER = re.compile(r"(\\?[A-Za-z]+(?:_\w|_\{\w+\})?) ?\\in(?![A-Za-z]) ?")
_POINT = re.compile(r"(?:[Pp]oint )?[A-Z]'? ?(?=\()")
_BUILDER = re.compile(r"\\?\{ ?[A-Za-z] ?(?:\\mid|\\vert|\||:) ?([^{}]*?) ?\\?\}")
_VARIABLE = re.compile(r"(?:\\[A-Za-z]+|[A-Za-z])(?:_\w|_ ?\{ ?\w+ ?\})?'?")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z]) ?")
_COMPOUND = re.compile(r"(?:\d+(?:\.\d+)? ?[A-Za-z]+(?: |$)){2,6}")
_COMPOUND_ITEM = re.compile(r"\d+(?:\.\d+)? ?[A-Za-z]+")
_ALL_REALS = frozenset({"all real numbers", "all reals", "real numbers", "set of all real numbers", r"\mathbb{r}"})
_NOTHING = frozenset({r"\emptyset", r"\{\}", r"\{ \}", "{}", "empty set"})


@lru_cache(maxsize=2**14)
def parts(text: str) -> Parts | None:
    """The parts of a normal form; None if it is of one piece."""
    for wording in (text.casefold(), words(text)):
        if wording in _ALL_REALS:
            return Parts(Shape.TUPLE, (r"-\infty", r"\infty"))
        if wording in _NOTHING:
            return Parts(Shape.SET, ())
    if member := _MEMBER.match(text):
        inner = parts(text[member.end() :])
        return None if inner is None else Parts(inner.shape, inner.items, member[1])
    if (point := _POINT.match(text)) and (place := parts(text[point.end() :])) and place.shape is Shape.TUPLE:
        return place
    if builder := _BUILDER.fullmatch(text):
        condition = parts(builder[1])
        return condition if condition and condition.name else None
    if bracketed := _BRACKETED_ARRAY.fullmatch(text):
        text = bracketed[1]
    if matrix := _MATRIX.fullmatch(text):
        return _matrix(matrix[1], matrix[2])
    if _COMPOUND.fullmatch(text):
        return Parts(Shape.LIST, tuple(_COMPOUND_ITEM.findall(text)))
    separators, first_close = _separators(text)
    if text.startswith(("(", "[", "{", r"\{")) and first_close == len(text):
        return _enclosed(text)
    return _split(text, separators)


def _split(text: str, separators: list[_Separator]) -> Parts | None:
    kinds = {separator.kind for separator in separators}
    if "item" in kinds:
        items = [sign for item in _pieces(text, separators, "item") for sign in _signs(item)]
        if len(items) == 2 and " and " in text and (both := _both_bounds(*map(parts, items))):
            return both
        return Parts(Shape.LIST, tuple(items)) if 1 < len(items) <= MAX_ITEMS else None
    if "union" in kinds:
        return Parts(Shape.UNION, _pieces(text, separators, "union"))
    if len(signs := _signs(text)) > 1:
        return Parts(Shape.LIST, signs)
    if "relation" in kinds:
        return _range(text, separators) if "equals" not in kinds else None
    if "equals" in kinds:
        sides = _pieces(text, separators, "equals")
        if len(sides) < 2:
            return None
        name, value = sides[0], sides[-1]
        if _VARIABLE.fullmatch(value) and not _VARIABLE.fullmatch(name):
            name, value = value, name
        return Parts(Shape.EQUATION, (value,), name)
    if "colon" in kinds:
        items = _pieces(text, separators, "colon")
        return Parts(Shape.RATIO, items) if len(items) == len(separators) + 1 else None
    return None


def _enclosed(text: str) -> Parts | None:
    """The parts of what one pair of brackets holds."""
    shape = _SHAPES[text.removeprefix("\\")[0] + text[-1]]
    inner = text[2:-2] if text[0] == "\\" else text[1:-1]
    separators, _ = _separators(inner)
    items = _pieces(inner, [s for s in separators if s.kind in ("item", "thousand")], "item", "thousand")
    if len(items) == 1 and shape is Shape.TUPLE:
        return parts(items[0])
    if not 0 < len(items) <= MAX_ITEMS or (len(items) != 2 and shape in (Shape.LEFT_OPEN, Shape.RIGHT_OPEN)):
        return None
    if shape is Shape.SET:
        items = tuple(sign for item in items for sign in _signs(item))
    return Parts(shape, items)


def _separators(text: str) -> tuple[list[_Separator], int]:
    """What stands outside brackets, and where the first bracket closes; no separators if brackets do not match."""
    separators: list[_Separator] = []
    opened: list[str] = []
    first_close = -1
    for token in _TOKEN.finditer(text):
        kind, sign = token.lastgroup, token[0]
        if kind == "open":
            opened.append(sign)
        elif kind == "close":
            if not opened or sign[-1] not in _CLOSING[opened[-1][-1]] or (sign[0] == "\\") != (opened[-1][0] == "\\"):
                return [], -1
            opened.pop()
            if not opened and first_close < 0:
                first_close = token.end()
        elif kind and not opened:
            separators.append(_Separator(kind, token.start(), token.end(), sign))
    return ([], -1) if opened else (separators, first_close)


def _pieces(text: str, separators: list[_Separator], *kinds: str) -> tuple[str, ...]:
    """The stretches between separators of these kinds, stripped, none empty."""
    cuts = [separator for separator in separators if separator.kind in kinds]
    starts = [0, *(cut.end for cut in cuts)]
    ends = [*(cut.start for cut in cuts), len(text)]
    return tuple(piece for start, end in zip(starts, ends, strict=True) if (piece := text[start:end].strip()))


def _signs(text: str) -> tuple[str, ...]:
    r"""Both values of an expression with one \pm."""
    found = _PLUS_MINUS.findall(text)
    if len(found) != 1:
        return (text,)
    before, after = _PLUS_MINUS.split(text)
    is_first = not before.strip() or before.rstrip().endswith(("=", "("))
    return (f"{before}{'' if is_first else '+'}{after}", f"{before}-{after}")


def _range(text: str, separators: list[_Separator]) -> Parts | None:
    """The interval that a variable is said to lie in."""
    relations = [separator for separator in separators if separator.kind == "relation"]
    sides = _pieces(text, separators, "relation")
    if len(sides) != len(relations) + 1 or len({relation.sign[0] for relation in relations}) != 1:
        return None
    signs = [relation.sign for relation in relations]
    if signs[0][0] == ">":  # from the least to the greatest
        sides, signs = sides[::-1], signs[::-1]
    if len(sides) == 2 and _VARIABLE.fullmatch(sides[0]):
        name, low, high, is_low_closed, is_high_closed = sides[0], r"-\infty", sides[1], False, signs[0][1:] == "="
    elif len(sides) == 2 and _VARIABLE.fullmatch(sides[1]):
        name, low, high, is_low_closed, is_high_closed = sides[1], sides[0], r"\infty", signs[0][1:] == "=", False
    elif len(sides) == 3 and _VARIABLE.fullmatch(sides[1]):
        low, name, high = sides
        is_low_closed, is_high_closed = signs[0][1:] == "=", signs[1][1:] == "="
    else:
        return None
    return Parts(_SHAPES["(["[is_low_closed] + ")]"[is_high_closed]], (low, high), name)


def _both_bounds(one: Parts | None, other: Parts | None) -> Parts | None:
    """The interval between the bounds of x > 1 and x <= 2."""
    if one is None or other is None or not one.name or one.name != other.name:
        return None
    below, above = (one, other) if one.items[0] == r"-\infty" else (other, one)
    if below.items[0] != r"-\infty" or above.items[-1] != r"\infty" or len(above.items) != 2:
        return None
    is_low_closed = above.shape is Shape.RIGHT_OPEN
    is_high_closed = below.shape is Shape.LEFT_OPEN
    return Parts(_SHAPES["(["[is_low_closed] + ")]"[is_high_closed]], (above.items[0], below.items[1]), one.name)


def _matrix(environment: str, body: str) -> Parts | None:
    rows = [row.strip() for row in body.split(r"\\") if row.strip()]
    if environment in ("cases", "aligned"):
        return Parts(Shape.LIST, tuple(row.replace("&", "").rstrip(",; ") for row in rows)) if rows else None
    cells = [[cell.strip() for cell in row.split("&")] for row in rows]
    if environment == "vmatrix" or not rows or len({len(row) for row in cells}) != 1:
        return None
    return Parts(Shape.MATRIX, tuple(cell for row in cells for cell in row), f"{len(cells)}x{len(cells[0])}")

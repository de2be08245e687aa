r"""Numbers that a model's text gives for its answer, as quantities: 1,234; \frac{3}{4}; $1.45; 30^\circ; fourteen.

The number is the statement itself, its head ("14 apples, since ..."), its end ("... is 14", "7 + 7 = 14") or the only
one in it, in the first of final_statements' places that has a number at all. Ranges, alternatives, numbers that are
part of an expression and scales in words ("2.5 million") leave the answer open.
"""

import re
from dataclasses import dataclass

from srpo_fast.evaluation.final_statements import final_statements
from srpo_fast.grading.answer_text import normalized
from srpo_fast.grading.literals import read_number
from srpo_fast.grading.quantities import Quantity, quantity
from srpo_fast.grading.units import canonical_unit

_NUMBER = re.compile(r"(?<![\w.,\\^_{/])[-+]?(?:(?=\.?\d)|(?=\\frac))")
_DIGIT = re.compile(r"\d")
_RELATION = re.compile(r"=|\b(?:is|are|was|were|equals?|be|gives|makes|totals)\b(?: (?:equal to|thus|then|only))?:?")
_RELATION_TO_NUMBER = re.compile(r"(?:=|\b(?:is|are|was|were|equals)\b) ?[-+$]?[\d\\]")
_CONJUNCTION = re.compile(r"\b(?:and|while|whereas|but)\b")
_NAMED_NUMBER = re.compile(r"[A-Za-z\\][A-Za-z\\ ]*(?:=|\b(?:is|are|equals)\b) ?[-+$]?[\d\\]")  # not 2x = 8
_CONCLUSION = re.compile(r"\b(?:so|thus|hence|therefore)\b")
_CLAUSE_END = re.compile(r"[,;:(]|\b(?:since|because|as|so|which|when|if|where|for|on|at|of|from|thus|therefore)\b")
_ALTERNATIVE = re.compile(r"(?:[,;:]|\((?=or|and|to))? ?(?:or|and|to)? ?[-+$]?\d")  # after a head that seems to end
_OPERATOR = re.compile(r" ?(?:[*+/^_=<>]|\\(?:times|cdot|sqrt|pi|pm|cup)|[-:] ?\d)|[A-Za-z\\({]")
_ADJACENT_UNIT = re.compile(r"\^\\circ|%|[A-Za-z]+(?:\^?[23])?(?![\w^])")
_AFTER_OPERATOR = re.compile(r"(?:[*+/^<>(]|\\(?:times|cdot|sqrt|pm)|\d ?-) ?$")
_SCALE = re.compile(r"\d ?(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|[kMB]\b)")
_WORDED = {word: str(number) for number, word in enumerate(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"))
}  # fmt: skip
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDED)})\b(?! of\b)", re.IGNORECASE)
_BRACKETS = (re.compile(r"\[([^\[\]]*)\]"), re.compile(r"(?:\(|\\?\{)([^(){}\\]*)(?:\)|\\?\})"))
_REMARK = re.compile(r"(?<=[^\s(]) \([^()]*\)")
_DENIED = re.compile(r"(?:\b(?:not|never|least|most|than|except|nearly|almost)\b|n't\b)[^,;:]*$", re.IGNORECASE)
_SEPARATOR = re.compile(r" ?(?:[,;]|\band\b|\bto\b) ?")


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    number: Quantity
    rule: str


def final_number(text: str) -> NumberAnswer | None:
    """The number that a text gives as its answer; None if it gives none, or leaves open which."""
    for statement in final_statements(text):
        said = _with_digits(normalized(statement.text))
        if _DIGIT.search(said):
            number = stated_number(said)
            return NumberAnswer(number, f"number, {statement.place}") if number else None
    return None


def final_numbers(text: str) -> tuple[Quantity, ...]:
    """The numbers of the list that a text gives as its answer, in its order; () if it gives none."""
    for statement in final_statements(text):
        said = normalized(statement.text)
        if not _DIGIT.search(said):
            continue
        for inner in (inner for brackets in _BRACKETS for inner in reversed(brackets.findall(said))):
            items = [quantity(item) for item in _SEPARATOR.split(inner.strip()) if item]
            if items and None not in items:
                return tuple(item for item in items if item)
        return numbers_in(said)
    return ()


def numbers_in(text: str) -> tuple[Quantity, ...]:
    """Every number of a normal form, in order, with its percent sign if it has one."""
    found = []
    end = 0
    for start in (match.start() for match in _NUMBER.finditer(text)):
        if start >= end and (number := read_number(text, start)):
            end = number[1] + text.startswith("%", number[1])
            found.append(quantity(text[start:end]))
    return tuple(number for number in found if number)


def stated_number(said: str) -> Quantity | None:
    """The number that a statement's normal form comes down to; None if it leaves open which, or that is no number."""
    shorter = _REMARK.sub("", said)
    said = shorter if _DIGIT.search(shorter) else said
    if _SCALE.search(said) or _changes_unit(said) or _states_two(said):
        return None
    *_, relation = None, *_RELATION.finditer(said)
    end = said[relation.end() :].strip() if relation else ""
    for piece in (said, _first_clause(said), end, _first_clause(end)):
        if piece and (number := quantity(piece)):
            return number
    return _only_number(said)


def _first_clause(said: str) -> str:
    """The clause of a statement that begins with a number; empty where it goes on with another one."""
    clause_end = _CLAUSE_END.search(said)
    if not clause_end or said[0] not in "+-.$\\0123456789" or _ALTERNATIVE.match(said, clause_end.start()):
        return ""
    return said[: clause_end.start()].strip()


def _only_number(said: str) -> Quantity | None:
    """The number of a statement that has one, which is no part of an expression."""
    starts = [start for match in _NUMBER.finditer(said) if read_number(said, start := match.start())]
    if len(starts) != 1 or (number := read_number(said, starts[0])) is None:
        return None
    rest = said[number[1] :]
    unit = _ADJACENT_UNIT.match(rest)
    is_measured = unit is not None and canonical_unit(unit[0]) is not None
    before = said[: starts[0]]
    if _DENIED.search(before) or _AFTER_OPERATOR.search(before) or (_OPERATOR.match(rest) and not is_measured):
        return None
    return quantity(said[starts[0] : number[1]] + ("%" if rest.startswith("%") else ""))


def _changes_unit(said: str) -> bool:
    """Whether it ends like 2.4 m = 240 cm: either may be what was asked for."""
    units = {number.unit for side in said.split("=")[-2:] if (number := quantity(side.strip()))}
    return len(units - {""}) > 1


def _states_two(said: str) -> bool:
    """Whether it says that A is 60 and B is 30."""
    listed = [part.strip() for part in re.split("[,;]", said)]
    if len(listed) > 1 and all(_NAMED_NUMBER.match(part) for part in listed[-2:]):
        return not _CONCLUSION.search(listed[-1])
    *before, last = _CONJUNCTION.split(said)
    return (
        bool(before) and not _CONCLUSION.search(last) and all(_RELATION_TO_NUMBER.search(p) for p in (before[-1], last))
    )


def _with_digits(said: str) -> str:
    """Small numbers in words as digits, where the statement has no digits."""
    return said if _DIGIT.search(said) else _WORD.sub(lambda word: _WORDED[word[0].casefold()], said)

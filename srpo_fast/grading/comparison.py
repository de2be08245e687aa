"""Whether two answers are equal, part by part. What is neither quantity nor words is left to the caller's `judge`.

Yes, no and "cannot tell" (None) are told apart: a list is unequal as soon as one of its items is, whatever the others.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from srpo_fast.grading.answer_parts import Parts, Shape, parts
from srpo_fast.grading.answer_text import is_name, is_product, is_prose, variables, words
from srpo_fast.grading.quantities import EXACT, Tolerance, quantity
from srpo_fast.grading.units import split_unit

Judge = Callable[[str, str, Tolerance], bool | None]  # answer, gold: expressions of one piece

MAX_CHARACTERS = 400  # longer texts are compared as texts

_INTEGER = re.compile(r"-?\d{1,18}")
_SPACE = re.compile(r" (?!\d)|(?<![\d,]) ")
_IN_BRACES = re.compile(r"([\^_])\{([^{}]|-?\d+)\}")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?(?::(\d\d))? ?(?:([ap])\.? ?m\.?)?", re.IGNORECASE)
_HEAD = re.compile(r"(yes|no|true|false)(?=$|[,.;:!])", re.IGNORECASE)
_IS = re.compile(
    r"(?<![A-Za-z])(?:is|are|equals|was|be)(?: equal to| called| given by)? (?:(?:the|an?) )?", re.IGNORECASE
)
_DENIAL = re.compile(r"\b(?:not|never|neither|cannot|no|unless|if|or)\b|n't\b", re.IGNORECASE)
_BINDING = re.compile(r"\\(?:int|sum|prod|lim)(?![A-Za-z])")  # their variable is their own
_LONE_NUMBER = re.compile(r"(?<!\w)\d+(?!\w)")
_OPERATION = re.compile(r"[\d+*/^-]")
_SUBSCRIPT = re.compile(r"_\{[^{}]*\}|_\w|\([^()]*\)")
_ORDERED = (Shape.TUPLE, Shape.CLOSED)
_UNORDERED = (Shape.LIST, Shape.SET)
_INTERVALS = (Shape.TUPLE, Shape.CLOSED, Shape.LEFT_OPEN, Shape.RIGHT_OPEN)


@dataclass(frozen=True, slots=True)
class Comparison:
    judge: Judge
    tolerance: Tolerance = EXACT

    def equal(self, answer: str, gold: str) -> bool | None:
        """Whether a normal form says what the gold's says, perhaps at the end of a sentence."""
        result = self._equal(answer, gold)
        if result or not is_prose(answer) or len(answer) > MAX_CHARACTERS or _DENIAL.search(answer):
            return result
        *_, verb = None, *_IS.finditer(answer)
        if verb is None or _LONE_NUMBER.search(answer, 0, verb.start()):
            return result
        return any_of([result, self._equal(answer[verb.end() :].strip(), gold)])

    def _equal(self, answer: str, gold: str) -> bool | None:
        if not answer or not gold:
            return False
        if max(len(answer), len(gold)) > MAX_CHARACTERS:
            return squeezed(answer) == squeezed(gold) or words(answer) == words(gold) != ""
        answer, gold = _unwrapped(answer), _unwrapped(gold)
        if squeezed(answer) == squeezed(gold):
            return True
        if (clocks := _equal_clocks(answer, gold)) is not None:
            return clocks
        number, true_number = quantity(answer), quantity(gold)
        if number and true_number:
            return number.is_near(true_number, self.tolerance)
        if is_prose(gold) and (words(answer) == words(gold) != "" or _is_same_yes_or_no(answer, gold)):
            return True
        if (pieces := parts(answer)) or parts(gold):
            return self._equal_parts(answer, gold, pieces, parts(gold))
        return self._equal_expressions(answer, gold)

    def _equal_expressions(self, answer: str, gold: str) -> bool | None:
        (expression, unit), (true_expression, true_unit) = _with_unit(answer), _with_unit(gold)
        if unit and true_unit and unit != true_unit:
            return False
        if unit or true_unit:
            result = self._equal(expression, true_expression)
            if result is not False or not variables(gold) or variables(answer) != variables(gold):
                return result  # else what was taken for units may be variables: 2 m g h
        if not _are_mathematics(answer, gold):
            return False
        if variables(answer) != variables(gold) and not _BINDING.search(answer + gold):
            return False
        return self.judge(answer, gold, self.tolerance)

    def _equal_parts(self, answer: str, gold: str, said: Parts | None, truth: Parts | None) -> bool | None:
        if said and truth and said.shape is truth.shape is Shape.EQUATION:
            return self._equal_equations(answer, gold, said, truth)
        if said and said.shape is Shape.EQUATION:
            if _is_nonsense(said):
                return False
            result = self._equal(said.items[0], gold)
            return any_of([result, self._equal(said.name, gold)]) if _is_irrational(said.name) else result
        if truth and truth.shape is Shape.EQUATION:
            return self._equal(answer, truth.items[0]) if _is_plain_name(truth.name) else False
        if said and truth:
            return self._equal_shapes(answer, gold, said, truth)
        several, other = (said, gold) if said else (truth, answer)
        assert several is not None
        piece = _of_one_piece(several)
        if piece is not None and not (several.shape is Shape.RATIO and is_prose(other)):
            return self._equal(piece, gold) if said else self._equal(answer, piece)
        if several.shape in (Shape.LIST, Shape.RATIO, Shape.SET) or is_prose(other):
            return False
        return self.judge(answer, gold, self.tolerance)

    def _equal_equations(self, answer: str, gold: str, said: Parts, truth: Parts) -> bool | None:
        if squeezed(said.name).casefold() == squeezed(truth.name).casefold():
            return self._equal(said.items[0], truth.items[0])
        if is_prose(said.name) and len(said.name) > 3:  # the length AB
            return self._equal(said.items[0], gold)
        if _is_plain_name(truth.name) and not variables(truth.items[0]):
            return False  # neither y = 5 nor 2x + 1 = 11 is x = 5
        return self.judge(answer, gold, self.tolerance) if _are_mathematics(answer, gold) else False

    def _equal_shapes(self, answer: str, gold: str, said: Parts, truth: Parts) -> bool | None:
        shapes = {said.shape, truth.shape}
        if said.name and truth.name and squeezed(said.name) != squeezed(truth.name):
            return False
        if shapes == {Shape.LIST}:
            return self._in_order(said, truth) if _names_differ(said, truth) else self._in_any_order(said, truth)
        if shapes <= {*_UNORDERED}:
            return self._in_any_order(_distinct(said), _distinct(truth))
        if shapes == {Shape.RATIO}:
            return self._equal_ratios(said, truth)
        if shapes <= {Shape.UNION, Shape.LIST}:
            are_intervals = all(_is_interval(item) for item in said.items + truth.items)
            return self._in_any_order(said, truth) if are_intervals else self._unlike(answer, gold, shapes)
        if len(shapes) == 1 or self._are_alike_in_order(said, truth, shapes):
            return self._in_order(said, truth)
        return self._unlike(answer, gold, shapes)

    def _unlike(self, answer: str, gold: str, shapes: set[Shape]) -> bool | None:
        """Only of sets and intervals can symbols tell more than shapes do."""
        if shapes <= {Shape.UNION, *_INTERVALS, Shape.LIST} and Shape.UNION in shapes:
            return self.judge(answer, gold, self.tolerance)
        return False

    def _are_alike_in_order(self, said: Parts, truth: Parts, shapes: set[Shape]) -> bool:
        """Tuples, bare lists and columns; brackets around more or fewer than two items are no interval."""
        if said.shape is Shape.MATRIX or truth.shape is Shape.MATRIX:
            return shapes == {Shape.MATRIX, Shape.TUPLE} and (said.name or truth.name).endswith("x1")
        if not shapes <= {*_ORDERED, Shape.LIST} or any(p.name for p in (said, truth)):
            return False
        return Shape.CLOSED not in shapes or len(truth.items) != 2

    def _in_order(self, said: Parts, truth: Parts) -> bool | None:
        if len(said.items) != len(truth.items):
            return False
        return _all(self._equal(item, true_item) for item, true_item in zip(said.items, truth.items, strict=True))

    def _in_any_order(self, said: Parts, truth: Parts) -> bool | None:
        """Every item of the gold finds one of its own in the answer."""
        if len(said.items) != len(truth.items):
            return False
        left, uncertain = list(said.items), []
        for true_item in truth.items:
            found = [self._equal(item, true_item) for item in left]
            if True in found:
                del left[found.index(True)]
            elif None in found:
                uncertain.append(true_item)
            else:
                return False
        return None if uncertain else True

    def _equal_ratios(self, said: Parts, truth: Parts) -> bool | None:
        if len(said.items) != len(truth.items):
            return False
        if is_equal := self._in_order(said, truth):
            return is_equal
        (first, *others), (true_first, *true_others) = said.items, truth.items
        return _all(
            self._equal(_fraction(other, first), _fraction(true_other, true_first))
            for other, true_other in zip(others, true_others, strict=True)
        )


def squeezed(text: str) -> str:
    """A normal form without the blanks and braces that mean nothing."""
    return _IN_BRACES.sub(r"\1\2", _SPACE.sub("", text)).removeprefix("+")


def _unwrapped(text: str) -> str:
    """The text without parentheses around all of it that hold one thing."""
    for _ in range(3):
        if not (text.startswith("(") and text.endswith(")")) or "," in text or ";" in text or len(text) < 3:
            break
        depth = 0
        for place, character in enumerate(text):
            depth += {"(": 1, ")": -1}.get(character, 0)
            if depth == 0 and place < len(text) - 1:
                return text
        text = text[1:-1].strip()
    return text


def _with_unit(text: str) -> tuple[str, str]:
    number = quantity(text)
    return (number.text, number.unit) if number else split_unit(text)


def _are_mathematics(answer: str, gold: str) -> bool:
    """Neither is said in words. A few letters may be a product, unless both are letters."""
    if is_name(answer) and is_name(gold):
        return False
    return all(not is_prose(text) or is_product(text) or (is_name(text) and len(text) <= 3) for text in (answer, gold))


def _is_plain_name(name: str) -> bool:
    r"""What an equation may define: x, f(2), \angle A, the area, but no 2x + y."""
    return _OPERATION.search(_SUBSCRIPT.sub("", name)) is None


def _is_nonsense(equation: Parts) -> bool:
    """4 = 5: whoever writes down both numbers has answered neither."""
    sides = (equation.name, equation.items[0])
    return all(_INTEGER.fullmatch(side) for side in sides) and int(sides[0]) != int(sides[1])


def _is_irrational(name: str) -> bool:
    r"""Whether the first side of an equation is a value that the last approximates (36\pi = 113.1)."""
    return not (variables(name) or is_prose(name) or quantity(name) or name in "ei")


def _is_same_yes_or_no(answer: str, gold: str) -> bool:
    head = _HEAD.match(answer)
    return head is not None and head[1].casefold() == gold.casefold()


def _equal_clocks(answer: str, gold: str) -> bool | None:
    """Of two times of the day, of which one at least says a.m. or p.m.; None of anything else."""
    said, truth = _CLOCK.fullmatch(answer), _CLOCK.fullmatch(gold)
    if not said or not truth or not (said[4] or truth[4]):
        return None
    halves = {half.casefold() for half in (said[4], truth[4]) if half}
    is_plain_number = any(clock[2] is None and clock[4] is None for clock in (said, truth))
    times = [(int(clock[1]), int(clock[2] or 0), int(clock[3] or 0)) for clock in (said, truth)]
    return len(halves) == 1 and not is_plain_number and times[0] == times[1]


def _fraction(top: str, bottom: str) -> str:
    numbers = quantity(top), quantity(bottom)
    if numbers[0] and numbers[1] and numbers[1].value:
        ratio = numbers[0].value / numbers[1].value
        return f"{ratio.numerator}/{ratio.denominator}"
    return rf"\frac{{{top}}}{{{bottom}}}"


def _of_one_piece(several: Parts) -> str | None:
    """What parts come to that are no more than one: a set's only element, a ratio of two as a fraction."""
    if several.shape is Shape.SET and len(several.items) == 1:
        return several.items[0]
    return _fraction(*several.items) if several.shape is Shape.RATIO and len(several.items) == 2 else None


def _is_interval(text: str) -> bool:
    pieces = parts(text)
    return pieces is not None and pieces.shape in _INTERVALS and len(pieces.items) == 2


def _names_differ(said: Parts, truth: Parts) -> bool:
    """One list says what each item is the value of, all different, and the other does not."""
    return _has_own_names(said) != _has_own_names(truth)


def _has_own_names(several: Parts) -> bool:
    items = [parts(item) for item in several.items]
    names = {squeezed(item.name) for item in items if item and item.shape is Shape.EQUATION}
    return len(names) == len(items)


def _distinct(several: Parts) -> Parts:
    return Parts(several.shape, tuple({squeezed(item): item for item in several.items}.values()), several.name)


def any_of(results: Iterable[bool | None]) -> bool | None:
    """Yes if one is yes, else None if one is None."""
    found = list(results)
    return True if True in found else None if None in found else False


def _all(results: Iterable[bool | None]) -> bool | None:
    """Stops at the first False."""
    is_certain = True
    for result in results:
        if result is False:
            return False
        is_certain &= result is True
    return True if is_certain else None

r"""Questions with several answers: those that a model's text ends with, and whether they pair up with the gold's."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from srpo_fast.evaluation.final_statements import MAX_CHARACTERS, final_statements, sentences
from srpo_fast.grading.answer_text import group_end

_ENDING = re.compile(
    r"final answers? (?:is|are)\b:?(?! (?:in)?(?:correct|consistent|valid)| right| wrong| reasonable| in\b)",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\f?box(?:ed)?\s*(?=\{)")
_TOKEN = re.compile(
    r"(?P<open>\\?[(\[{])|(?P<close>\\?[)\]}])"
    r"|(?P<cut>[,;\uff0c]|\\(?:text|mathrm)\s*\{[\s~]*(?:and|or)[\s~]*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))|\\."
)
_THOUSAND = re.compile(r"(?<=\d),(?:\\[!,])?\d{3}(?!\d)")
_SET = re.compile(r"\s*(?:\\left\s*)?\\\{([^{}]*)\\\}\s*")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])|\u00b1")


def stated_answers(text: str, expected: int) -> tuple[str, ...]:
    r"""The answers that a text ends with, where as many as `expected` are asked for; () if it states none.

    If it says "the final answer is", only what follows counts. They are what the last line of boxes holds, all boxes if
    those are too few; without any box, the first of final_statements. What is said twice is one answer.
    """
    *_, ending = None, *_ENDING.finditer(text)
    boxes = _boxes(text[ending.end() :] if ending else text)
    if not boxes and ending and (said := sentences(text[ending.end() :][:MAX_CHARACTERS])):
        return _distinct(said[:1], expected)
    boxes = boxes or _boxes(text)
    if not boxes:
        return _distinct([next((statement.text for statement in final_statements(text)), text)], expected)
    answers = _distinct([box.inner for box in boxes if box.line == boxes[-1].line], expected)
    return answers if len(answers) >= expected else _distinct([box.inner for box in boxes], expected)


def separated(text: str, *, has_several: bool) -> tuple[str, ...]:
    r"""The answers that a text lists, parted outside brackets; \pm makes two of one.

    has_several: 100,200 is two numbers then, else one with its thousands set off; and a set is what it holds, else one
    answer.
    """
    if has_several and (elements := _SET.fullmatch(text)):
        text = elements[1].removesuffix(r"\right")
    pieces, depth, start = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token["open"] or token["close"]:
            depth = max(0, depth + (1 if token["open"] else -1))
        elif token["cut"] and not depth and (has_several or not _THOUSAND.match(text, token.start())):
            pieces.append(text[start : token.start()])
            start = token.end()
    stripped = (piece.strip(" \t\n$.:") for piece in [*pieces, text[start:]])
    return tuple(signed for piece in stripped if piece for signed in _both_signs(piece))


def can_be_paired(matches: Sequence[frozenset[int]]) -> bool:
    """Whether every row can have one of its own columns, and no column twice."""
    owners: dict[int, int] = {}

    def finds_one(row: int, tried: set[int]) -> bool:
        for column in matches[row] - tried:
            tried.add(column)
            if column not in owners or finds_one(owners[column], tried):
                owners[column] = row
                return True
        return False

    return all(finds_one(row, set()) for row in range(len(matches)))


@dataclass(frozen=True, slots=True)
class _Box:
    inner: str
    line: int


def _boxes(text: str) -> list[_Box]:
    return list(_closed_boxes(text))


def _closed_boxes(text: str) -> Iterator[_Box]:
    """The outermost boxes that are not empty, as far as all are closed."""
    end = 0
    for box in _BOX.finditer(text):
        if box.start() < end:
            continue
        end = group_end(text, box.end())
        if end < 0:
            return
        if inner := text[box.end() + 1 : end].strip():
            yield _Box(inner, text.count("\n", 0, box.start()))


def _distinct(texts: Sequence[str], expected: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(answer for text in texts for answer in separated(text, has_several=expected > 1)))


def _both_signs(text: str) -> tuple[str, ...]:
    if len(_PLUS_MINUS.findall(text)) != 1:
        return (text,)
    before, after = _PLUS_MINUS.split(text)
    plus = "+" if before.strip() and not before.rstrip().endswith(("=", "(")) else ""
    return f"{before}{plus}{after}", f"{before}-{after}"

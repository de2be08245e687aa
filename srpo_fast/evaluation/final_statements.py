r"""Where a model's text states its final answer, most trustworthy place first. What it says there, others read.

box              the last \boxed{..}
answer phrase    what follows the last "the answer is", "Answer:", "the correct option is", .. (or its like in
                 Chinese, Spanish, French, German or Portuguese), to the end of its sentence
whole text       a text of one sentence
last sentence    of any other
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from srpo_fast.responses import boxed

MAX_CHARACTERS = 300  # of a statement: what is longer argues and states nothing

_IS = r"(?:\b(?:is|was|are|equals|(?:would|should|must|has to) be)\b *[*]{0,2}:?|[*]{0,2} ?[:=\uff1a])"
_PHRASES = (
    rf"(?<!to )\banswers?\b[^.,:=\n]{{0,40}}?{_IS}",
    rf"\b(?:correct|right|best|closest|matching) (?:option|choice|letter|alternative)s?\b[^.:=\n]{{0,80}}?{_IS}",
    r"\u7b54\u6848(?:\u5e94\u8be5|\u5e94|\u9009)?[\u662f\u4e3a\u9009:\uff1a]+",  # Chinese: the answer is
    r"\u9009(?:\u62e9|\u9879)?[:\uff1a]? ?(?=[(\uff08]?[A-J])",  # choose A
    r"\brespuesta\b[^.:\n]{0,30}?(?:\bes\b|:)",
    r"\br[e\u00e9]ponse\b[^.:\n]{0,30}?(?:\best\b|:)",
    r"\bantwort\b[^.:\n]{0,30}?(?:\bist\b|\blautet\b|:)",
    r"\bresposta\b[^.:\n]{0,30}?(?:\b\u00e9(?!\w)|:)",
)
_PHRASE = re.compile("(?:" + "|".join(_PHRASES) + r")[ \t*:]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=[*\"')]{0,3}(?:\s+\D|\s*$))[*\"')]{0,3}|[\u3002\uff01\uff1f]|\n")
_NO_END = re.compile(r"(?:\b(?:approx|sq|vs|e\.g|i\.e|resp)|^[([{*]{0,3}[A-Z][)\]}]?[*]{0,2})\.$")  # also "B." alone
_LABEL = re.compile(r"(?<![\w.])[A-Z]\.(?= +[a-z\d$\\])")  # .. and inside a sentence, before an option's text
_MARKDOWN = re.compile(r"^[\s*_#>`~]+|[\s*_`~]+$|^- +")
_TAG = re.compile(r"</?(?:think|answer|reflection)>")


@dataclass(frozen=True, slots=True)
class Statement:
    text: str
    place: str  # as in the list above


def final_statements(text: str) -> Iterator[Statement]:
    """What stands in these places, each at most once and none empty. Takes time linear in the text."""
    text = _TAG.sub("\n", text).strip()
    if (value := boxed(text)) and len(value) <= MAX_CHARACTERS:
        yield Statement(value, "box")
    if said := _after_last_phrase(text):
        yield Statement(said, "answer phrase")
    *before, last = sentences(text[-4 * MAX_CHARACTERS :]) or [""]
    if last and len(last) <= MAX_CHARACTERS:
        yield Statement(last, "last sentence" if before else "whole text")


def sentences(text: str) -> list[str]:
    """Sentences and lines, without their Markdown; what has neither letter nor digit is none."""
    return list(_sentences(text))


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        piece = text[start:end].strip()
        if end < len(text) and text[end - 1] != "\n" and (_NO_END.search(piece) or _LABEL.match(text, end - 2)):
            continue
        start = end
        piece = _MARKDOWN.sub("", piece).strip()
        if any(character.isalnum() for character in piece):
            yield piece


def _after_last_phrase(text: str) -> str:
    for phrase in reversed(list(_PHRASE.finditer(text))):
        if said := next(_sentences(text[phrase.end() : phrase.end() + 2 * MAX_CHARACTERS]), ""):
            return said if len(said) <= MAX_CHARACTERS else ""
    return ""

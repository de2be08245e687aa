"""Does a reflection give away what only its writer could know?

A teacher reflects with the ground truth in hand. A policy that learns from "the correct answer is 42" learns to claim
knowledge that it cannot have, so such reflections are found here and can be refused.
"""

import re
from enum import StrEnum

from srpo_fast.batch import Question
from srpo_fast.reflection.occurrences import Span, plain, read_value


class Leak(StrEnum):
    STATES_ANSWER = "states_answer"  # the ground truth, where the attempt had not come to it
    CITES_KEY = "cites_key"  # a correct, given, reference answer that is known
    HOLDS_TAGS = "holds_tags"  # one of our tags: it would break the record's form


def leaks(reflection: str, question: Question, *, think: str, answer: str) -> tuple[Leak, ...]:
    """What a reflection on the first attempt (`think`, `answer`) gives away; empty when it is fit for use."""
    found = {
        Leak.STATES_ANSWER: states_answer(reflection, question, think=think, answer=answer),
        Leak.CITES_KEY: cites_key(reflection),
        Leak.HOLDS_TAGS: holds_tags(reflection),
    }
    return tuple(leak for leak, is_there in found.items() if is_there)


def states_answer(reflection: str, question: Question, *, think: str, answer: str) -> bool:
    """Whether it says the ground truth, as a value or in other writing of it, and that is news.

    No news is what the first answer says or the first reasoning comes to. What question or reasoning merely mention is
    news when the reflection calls it the answer; letters and words like yes and no count only when it does.
    """
    value = read_value(question.answer)
    if value is None:
        return False
    reflection, think, answer = plain(reflection), plain(think), plain(answer)
    if value.spans(answer) or value.spans_of_word(answer):
        return False
    said = value.spans(reflection) + value.spans_of_word(reflection)
    if any(_is_called_answer(reflection, span) for span in said):
        return not any(_is_called_answer(think, span) or _is_arrived_at(think, span) for span in value.spans(think))
    if value.is_shy or not value.spans(reflection):
        return False
    return not value.spans(think) and not value.spans(plain(question.text))


def cites_key(text: str) -> bool:
    """Whether it speaks of an answer that is known from elsewhere; also for an improved reasoning."""
    return any(pattern.search(text) for pattern in _CITATIONS)


def holds_tags(text: str) -> bool:
    """Whether it holds a tag of the response format or an image mark, opening or closing, in any case."""
    return bool(_TAG.search(text))


_TAG = re.compile(r"<\s*/?\s*(?:think|answer|reflection|image)\s*>", re.IGNORECASE)

_RIGHT = r"(?:correct|right|true|actual|real)(?:\s+final)?"
_RIGHT_NOUN = r"(?:answer|solution|result|option|choice|response|value)s?"
_OFFICIAL = r"(?:expected|intended|target|desired|official|reference|known|gold(?:en)?|annotated|labell?ed)"
# what makes of "the correct answer is" a remark on how to find it
_METHOD = (
    r"(?:obtained|found|derived|comput|calculat|determin|reach|read|shown|given by|visible|check|verif|confirm|support"
    r"|only|not|never|un|still|likely|probabl|possibl|eas|clear|missing|what|whatever|which|one|in|at|on|to)"
)
_COMPARING = (
    r"(?:match(?:es|ed|ing)?|(?:dis)?agree(?:s|d|ing)?\s+with|differ(?:s|ed|ing|ent)?\s+from|contradict(?:s|ed|ing)?"
    r"|compar(?:e|es|ed|ing)\s+(?:to|with|against)|(?:in)?consistent\s+with|deviat\w+\s+from|(?:equal|identical)\s+to"
    r"|same\s+as|unlike|versus|vs\.?|based\s+on|according\s+to|as\s+per|since|because|knowing|given|from|than|against"
    r"|(?:mis)?align\w*\s+with|close\s+to|above|below)(?:\s+that)?"
)
_CITATIONS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bground[- ]truths?\b",
        r"\b(?:answer|solution|marking|grading)[- ](?:key|sheet|scheme)\b",
        r"\b(?:per|in|from|with|to|matches)\s+the\s+key(?=\s*[,.;:]|\s+(?:is|says|gives|shows)\b)",
        rf"\b{_OFFICIAL}\s+(?:correct\s+|final\s+)?(?:answer|choice|option|label)\b(?!\s+(?:format|form|type|choice|option))",
        r"\breference\s+(?:solution|value|key)\b",
        rf"\b(?:given|provided|supplied|stated|listed|marked)\s+(?:as\s+the\s+)?{_RIGHT}\s+{_RIGHT_NOUN}\b",
        rf"\b{_RIGHT}\s+{_RIGHT_NOUN}\s*+(?:\([^)]*\)\s*+)?"
        rf"(?:is|was|are|being|(?:should|must|would|has to|turns out to)\s+be|=|:)\s*+(?!{_METHOD})",
        rf"\b{_RIGHT}\s+{_RIGHT_NOUN}\s*+(?:,\s*+|\(|of\s+)[$\\]*+(?:\d|[A-J]\b)",
        rf"\b{_COMPARING}\s+the\s+{_RIGHT}\s+{_RIGHT_NOUN}\b",
        rf"\b{_COMPARING}\s+the\s+(?:given|provided|supplied|stated)\s+(?:final\s+)?answer\b(?!\s+(?:choice|option))",
        r"\b(?:was|were|am|are|been)\s+(?:told|given|shown|provided\s+with)\s+(?:that\s+)?the\s+(?:\w+\s+)?answer\b(?!\s+(?:choice|option))",
        r"\b(?:the|this)\s+answer\s+(?:is|was)\s+(?:already\s+)?(?:known|given|provided)\b",
    )
]

# what may stand between a claim and the value
_OPENING = r"[\s*_\"'`(\[{:=]*(?:(?:option|choice|letter|just|exactly|actually|simply|indeed|rather)\s+)*[(*\"'`]*"
_NOT_DENIED = r"(?:(?!\bnot\b|n't\b|\bnever\b|[.;!?]\s)[^\n]){0,40}?"
_NOUN = r"(?:answer|result|solution|option|choice|conclusion|outcome|total|value)"
_CALLED_BEFORE = re.compile(
    rf"(?:\b{_NOUN}\b{_NOT_DENIED}\b(?:is|was|be|are|been|equals?|becomes?|gives?|comes? (?:out )?to)"
    rf"|\b{_NOUN}\s*[:=]"
    r"|\b(?:should|must|ought to|has to|needs to|would) (?:then |therefore |have |thus )?"
    r"(?:be|been|read|equal|give|yield|say|become|come to|get|conclude|select|choose|pick)(?: that it is)?"
    r"|\b(?:choos(?:e|ing)|pick(?:ing)?|select(?:ing)?|answer(?:ing)?|conclud(?:e|ing)|lead(?:s|ing)? to|go with)"
    r"|\bnot\s+[^\s.;]{1,12},?\s+but"
    r"|\b(?:correct|true|actual|proper)(?:\s+\w+)?(?:\s+(?:is|being|was))?)"
    rf"{_OPENING}$",
    re.IGNORECASE,
)
_CALLED_AFTER = re.compile(
    r"[\s)*\"'`\]}]*(?:is|was|would be|as)\s+(?:indeed\s+|actually\s+)?(?:the\s+)?"
    r"(?:(?:correct|right|true|actual)\b(?!\s+(?:angle|triangle))|(?:final\s+)?answer\b)",
    re.IGNORECASE,
)
_ARRIVED = re.compile(r"(?:=|\b(?:equals?|gives?|gets?|yields?|makes?))" + _OPENING + "$", re.IGNORECASE)


def _is_called_answer(text: str, span: Span) -> bool:
    start, end = span
    return bool(_CALLED_BEFORE.search(text[max(0, start - 90) : start]) or _CALLED_AFTER.match(text[end : end + 60]))


def _is_arrived_at(text: str, span: Span) -> bool:
    return bool(_ARRIVED.search(text[max(0, span[0] - 40) : span[0]]))

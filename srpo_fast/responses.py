"""The grammar of a completion's text: blocks, the two answers, the reflection, and what is wrong with it.

SRPO form:          <think>..</think><answer>..</answer><reflection>..</reflection><think>..</think><answer>..</answer>
Single-answer form: <think>..</think><answer>..</answer>
Two-step form:      the single-answer form twice

One pass over the tags cuts the text into segments and everything else is read off the segments, so any text parses, in
time linear in its length. A block is an opening tag and its own closing tag with none of our tags between: what an
unclosed tag holds belongs to no block and is no answer.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, cast

Kind = Literal["think", "answer", "reflection"]

Form = tuple[Kind, ...]

SINGLE_FORM: Form = ("think", "answer")
SRPO_FORM: Form = (*SINGLE_FORM, "reflection", *SINGLE_FORM)
TWO_STEP_FORM: Form = (*SINGLE_FORM, *SINGLE_FORM)

_TAG = re.compile(r"<(/?)(think|answer|reflection)>")
# group 1 opens a box, group 2 is an ordinary brace; an escape such as \{ is consumed whole and is neither
_BRACE = re.compile(r"(\\boxed\s*\{)|\\.|([{}])", re.DOTALL)


class Fault(StrEnum):
    """What keeps a text from a form. Only the *_not_boxed codes leave the form well-formed: they cost no reward."""

    MISSING_THINK = "missing_think"  # no such block at all
    MISSING_ANSWER = "missing_answer"
    MISSING_REFLECTION = "missing_reflection"
    MISSING_SECOND_THINK = "missing_second_think"  # one where the form has two
    MISSING_SECOND_ANSWER = "missing_second_answer"
    EXTRA_THINK = "extra_think"  # more blocks than the form has
    EXTRA_ANSWER = "extra_answer"
    EXTRA_REFLECTION = "extra_reflection"
    EMPTY_THINK = "empty_think"  # nothing but whitespace inside
    EMPTY_ANSWER = "empty_answer"
    EMPTY_REFLECTION = "empty_reflection"
    UNCLOSED_THINK = "unclosed_think"  # opened; another of our tags or the end of the text came first
    UNCLOSED_ANSWER = "unclosed_answer"
    UNCLOSED_REFLECTION = "unclosed_reflection"
    UNOPENED_THINK = "unopened_think"  # closed without having been opened
    UNOPENED_ANSWER = "unopened_answer"
    UNOPENED_REFLECTION = "unopened_reflection"
    TEXT_OUTSIDE_BLOCKS = "text_outside_blocks"  # before, between or after them
    WRONG_ORDER = "wrong_order"  # the right blocks, otherwise ordered
    FIRST_ANSWER_NOT_BOXED = "first_answer_not_boxed"  # the whole block is then taken as the value
    SECOND_ANSWER_NOT_BOXED = "second_answer_not_boxed"


@dataclass(frozen=True, slots=True)
class Segment:
    """A block, a tag without its partner, or text outside blocks."""

    kind: Kind | Literal["text"]
    text: str  # inner text, stripped
    fault: Fault | None = None  # of a tag without its partner

    def is_block_of(self, *kinds: Kind) -> bool:
        return self.kind in kinds and self.fault is None


@dataclass(frozen=True, slots=True)
class Response:
    """A parsed completion. Texts are the inner texts of closed blocks, stripped; None where there is no such block."""

    segments: tuple[Segment, ...]

    @property
    def first_think(self) -> str | None:
        return self._first("think")

    @property
    def first_answer(self) -> str | None:
        return self._first("answer")

    @property
    def reflection(self) -> str | None:
        return self._first("reflection")

    @property
    def second_think(self) -> str | None:
        return self._second("think")

    @property
    def second_answer(self) -> str | None:
        return self._second("answer")

    def has_form(self, form: Form) -> bool:
        """Whether it is these non-empty blocks in order, with nothing but whitespace around them."""
        return _is_exactly(self.segments, form)

    @property
    def has_well_formed_solutions(self) -> bool:
        """Starts and ends with a well-formed think-answer pair, and has no other think or answer tag (R_format).

        What stands between the pairs is has_well_formed_reflection's affair. Both together are the SRPO form.
        """
        first, rest = self.segments[:2], self.segments[2:]
        middle, second = rest[:-2], rest[-2:]
        return (
            _is_exactly(first, SINGLE_FORM)
            and _is_exactly(second, SINGLE_FORM)
            and not any(segment.kind in SINGLE_FORM for segment in middle)
        )

    @property
    def has_well_formed_reflection(self) -> bool:
        """One reflection in all, non-empty and alone between the first answer and a second think block (I_ref)."""
        answers = (place for place, segment in enumerate(self.segments) if segment.is_block_of("answer"))
        after = next(answers, len(self.segments)) + 1
        is_alone = sum(segment.kind == "reflection" for segment in self.segments) == 1
        return is_alone and _is_exactly(self.segments[after : after + 2], ("reflection", "think"))

    def faults(self, form: Form) -> tuple[Fault, ...]:
        """What keeps it from a form, each once."""
        blocks = [segment for segment in self.segments if segment.is_block_of(*SRPO_FORM)]
        faults = [
            *_count_faults([block.kind for block in blocks], form),
            *(Fault(f"empty_{block.kind}") for block in blocks if not block.text),
            *(segment.fault for segment in self.segments if segment.fault is not None),
            *(Fault.TEXT_OUTSIDE_BLOCKS for segment in self.segments if segment.kind == "text"),
        ]
        if self.first_answer is not None and boxed(self.first_answer) is None:
            faults.append(Fault.FIRST_ANSWER_NOT_BOXED)
        if self.second_answer is not None and boxed(self.second_answer) is None:
            faults.append(Fault.SECOND_ANSWER_NOT_BOXED)
        return tuple(dict.fromkeys(faults))

    def _first(self, kind: Kind) -> str | None:
        return next(iter(self._texts(kind)), None)

    def _second(self, kind: Kind) -> str | None:
        """The last block when there are at least two."""
        texts = self._texts(kind)
        return texts[-1] if len(texts) > 1 else None

    def _texts(self, kind: Kind) -> list[str]:
        return [segment.text for segment in self.segments if segment.is_block_of(kind)]


def parse(text: str) -> Response:
    """The segments of any text, special tokens already removed. Never raises; time linear in the length."""
    segments: list[Segment] = []
    opened: Kind | None = None
    position = 0
    for tag in _TAG.finditer(text):
        inner, position = text[position : tag.start()].strip(), tag.end()
        closes, kind = bool(tag[1]), cast(Kind, tag[2])
        if closes and kind == opened:
            segments.append(Segment(kind, inner))
            opened = None
            continue
        segments += _loose_end(opened, inner)
        if closes:
            segments.append(Segment(kind, "", Fault(f"unopened_{kind}")))
        opened = None if closes else kind
    return Response((*segments, *_loose_end(opened, text[position:].strip())))


def boxed(answer: str) -> str | None:
    r"""What the last closed \boxed{...} holds, braces matched, stripped; None without one."""
    last: slice | None = None
    starts: list[int | None] = []  # of the open braces; None: an ordinary one
    for brace in _BRACE.finditer(answer):
        if brace[1]:
            starts.append(brace.end())
        elif brace[2] == "{":
            starts.append(None)
        elif brace[2] == "}" and starts and (start := starts.pop()) is not None:
            last = slice(start, brace.start())
    return None if last is None else answer[last].strip()


def final_value(answer: str) -> str:
    r"""The value an answer block gives: its last \boxed{...}, else the whole block."""
    value = boxed(answer)
    return answer.strip() if value is None else value


def _loose_end(opened: Kind | None, inner: str) -> list[Segment]:
    """What text that no closing tag claimed amounts to."""
    if opened is not None:
        return [Segment(opened, inner, Fault(f"unclosed_{opened}"))]
    return [Segment("text", inner)] if inner else []


def _is_exactly(segments: tuple[Segment, ...], form: Form) -> bool:
    return len(segments) == len(form) and all(
        segment.is_block_of(kind) and segment.text for segment, kind in zip(segments, form, strict=True)
    )


def _count_faults(kinds: list[str], form: Form) -> list[Fault]:
    faults = []
    for kind in dict.fromkeys(SRPO_FORM):
        found, expected = kinds.count(kind), form.count(kind)
        if found > expected:
            faults.append(Fault(f"extra_{kind}"))
        elif found < expected:
            faults.append(Fault(f"missing_{kind}" if found == 0 else f"missing_second_{kind}"))
    if not faults and tuple(kinds) != form:
        faults.append(Fault.WRONG_ORDER)
    return faults

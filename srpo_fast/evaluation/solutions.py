"""A response's two answers, as a protocol finds them.

reflective: the first and the last <answer> block; the last is the headline. published: what the published scripts do,
which take the first block, or else the last \\boxed{}; there the first is the headline. Without either, the whole text.
"""

from dataclasses import dataclass
from typing import Literal

from srpo_fast.responses import boxed, parse

Protocol = Literal["reflective", "published"]
MAX_CHARACTERS = 20_000  # of the text in which an answer is looked for: it stands at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Solutions:
    """Where the answers of one response are."""

    first: str
    last: str
    num_answers: int  # closed <answer> blocks
    first_length: int  # characters of the first think and answer blocks
    rest_length: int  # of the reflection and the second think and answer blocks
    reflection: str | None


def find_solutions(text: str, protocol: Protocol) -> Solutions:
    response = parse(text)
    blocks = [segment.text for segment in response.segments if segment.is_block_of("answer")]
    answers = blocks or [_without_blocks(text, protocol)]
    return Solutions(
        first=_end_of(answers[0]),
        last=_end_of(answers[-1]),
        num_answers=len(blocks),
        first_length=_length(response.first_think, response.first_answer),
        rest_length=_length(response.reflection, response.second_think, response.second_answer),
        reflection=response.reflection,
    )


def _end_of(text: str) -> str:
    return text.strip()[-MAX_CHARACTERS:]


def _without_blocks(text: str, protocol: Protocol) -> str:
    whole = boxed(text) if protocol == "published" else None
    return text if whole is None else whole


def _length(*parts: str | None) -> int:
    return sum(len(part or "") for part in parts)

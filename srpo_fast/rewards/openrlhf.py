"""The published code's reward: it pays most for a corrected answer, and nothing without two solutions."""

import re

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from srpo_fast.responses import SRPO_FORM, Segment
from srpo_fast.rewards.paper import (
    FORMAT,
    Graded,
    answer_shortfalls,
    length_deviation,
    length_part,
    length_shortfalls,
    nothing_for_one_solution,
    score_of,
)

ACCURACY = {  # by (first answer is right, second answer is right); of accuracy and effectiveness together
    (True, True): 0.75,
    (False, True): 1.0,
    (False, False): 0.0,
    (True, False): 0.25,
}

_BLOCK_OF_NOTHING = re.compile(r"<(think|answer|reflection)></\1>")


def openrlhf_score(graded: Graded, settings: RewardConfig) -> Score:
    """One number pays for both answers and stands in `accuracy`; one 0.5 pays for the whole form.

    As published, text before the first think block and blocks of blanks are forgiven, though `reasons` names them. Not
    as published, answers are read and compared as everywhere here: whatever their spacing, any choice letter, no reward
    for a letter somewhere in the text or for a gold that cannot be parsed.
    """
    if not graded.has_two_solutions:
        return nothing_for_one_solution(graded)
    deviation = length_deviation(graded, settings)
    # a first answer that could not be graded must not be paid like one that was corrected
    accuracy = 0.0 if graded.failure else ACCURACY[graded.first_correct, graded.second_correct]
    return score_of(
        graded,
        format=FORMAT * _has_form(graded.text, graded.response.segments),
        accuracy=accuracy,
        length=length_part(deviation, settings),
        reasons=(*graded.response.faults(SRPO_FORM), *answer_shortfalls(graded), *length_shortfalls(deviation)),
    )


def _has_form(text: str, segments: tuple[Segment, ...]) -> bool:
    """Five closed blocks at the end of the text, a character or more in each, and no other tag before them."""
    preamble, blocks = segments[: -len(SRPO_FORM)], segments[-len(SRPO_FORM) :]
    is_form = [segment.kind for segment in blocks if segment.fault is None] == list(SRPO_FORM)
    return is_form and all(segment.kind == "text" for segment in preamble) and not _BLOCK_OF_NOTHING.search(text)

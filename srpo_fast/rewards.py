"""Rule-based rewards: a completion's text and the gold -> a Score with its parts and reasons.

SRPO, equations 4-8:  total = R_format + R_accuracy + I_eff + I_ref + length_weight * f_len
A malformed completion earns the parts that are there; I_eff and f_len need two answers.
"""

import math
from collections.abc import Callable
from enum import StrEnum
from functools import partial

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from srpo_fast.grading import is_correct
from srpo_fast.responses import Response, final_value, parse

Scorer = Callable[[str, str, int], Score]  # text, gold, tokens of the completion as generated, end-of-turn excluded
TokenCounter = Callable[[str], int]

FORMAT = 0.5
ACCURACY = 0.5
REFLECTION_FORMAT = 0.25
EFFECTIVENESS = {  # by (first answer is right, second answer is right)
    (True, True): 0.25,
    (False, True): 0.5,
    (False, False): 0.0,
    (True, False): -0.25,
}


class Shortfall(StrEnum):
    """What answers and length did not earn; responses.Fault names what is wrong with the form."""

    FIRST_WRONG = "first_wrong"  # there is a first answer, and it is not the gold
    SECOND_WRONG = "second_wrong"
    REFLECTION_BROKE_ANSWER = "reflection_broke_answer"  # right, then wrong
    REFLECTION_FIXED_NOTHING = "reflection_fixed_nothing"  # wrong, then wrong
    TOO_SHORT = "too_short"  # f_len below 1/e, on either side
    TOO_LONG = "too_long"


def make_scorer(settings: RewardConfig, num_tokens: TokenCounter) -> Scorer:
    """The scorer that `settings.variant` names. `num_tokens` counts the tokens of a text, no special ones added."""
    match settings.variant:
        case "paper":
            return partial(paper_score, settings=settings, num_tokens=num_tokens)
        case "grpo":
            return lambda text, gold, total_tokens: grpo_score(text, gold)


def paper_score(text: str, gold: str, total_tokens: int, *, settings: RewardConfig, num_tokens: TokenCounter) -> Score:
    """SRPO's reward: R_format reads the two think-answer pairs, I_ref the reflection, R_accuracy the first answer.

    total_tokens: of the completion as generated, tags included, end-of-turn excluded.
    Without a second answer, `second_correct` is False.
    """
    response = parse(text)
    first_correct, second_correct = _is_right(response.first_answer, gold), _is_right(response.second_answer, gold)
    deviation = _length_deviation(response, total_tokens, settings, num_tokens)
    return _score(
        format=FORMAT * response.has_well_formed_solutions,
        accuracy=ACCURACY * first_correct,
        effectiveness=0.0 if response.second_answer is None else EFFECTIVENESS[first_correct, second_correct],
        reflection_format=REFLECTION_FORMAT * response.has_well_formed_reflection,
        length=0.0 if deviation is None else settings.length_weight * length_bonus(deviation),
        first_correct=first_correct,
        second_correct=second_correct,
        reasons=(
            *response.reasons,
            *_answer_shortfalls(response, first_correct, second_correct),
            *_length_shortfalls(deviation),
        ),
    )


def grpo_score(text: str, gold: str) -> Score:
    """Plain GRPO's reward: the single-answer form and its answer; both answers of the Score are that one."""
    response = parse(text)
    correct = _is_right(response.first_answer, gold)
    is_wrong = response.first_answer is not None and not correct
    return _score(
        format=FORMAT * response.is_single_well_formed,
        accuracy=ACCURACY * correct,
        first_correct=correct,
        second_correct=correct,
        reasons=(*response.single_reasons, *([Shortfall.FIRST_WRONG] if is_wrong else [])),
    )


def length_bonus(deviation: float) -> float:
    """f_len of equation 7, in [0, 1]. deviation: (L - T_target) / (T_max - T_target)."""
    return math.exp(-(deviation**2))


def _score(
    *,
    format: float,
    accuracy: float,
    effectiveness: float = 0.0,
    reflection_format: float = 0.0,
    length: float = 0.0,
    first_correct: bool,
    second_correct: bool,
    reasons: tuple[str, ...],
) -> Score:
    return Score(
        total=format + accuracy + effectiveness + reflection_format + length,
        format=format,
        accuracy=accuracy,
        effectiveness=effectiveness,
        reflection_format=reflection_format,
        length=length,
        first_correct=first_correct,
        second_correct=second_correct,
        reasons=reasons,
    )


def _is_right(answer: str | None, gold: str) -> bool:
    return answer is not None and is_correct(final_value(answer), gold)


def _length_deviation(
    response: Response, total_tokens: int, settings: RewardConfig, num_tokens: TokenCounter
) -> float | None:
    """Distance from the target length in units of T_max - T_target; None without two answers or a first length."""
    if response.second_answer is None:
        return None
    first_tokens = sum(num_tokens(part) for part in (response.first_think, response.first_answer) if part)
    if first_tokens == 0:
        return None
    return (total_tokens / first_tokens - settings.target_ratio) / (settings.max_ratio - settings.target_ratio)


def _answer_shortfalls(response: Response, first_correct: bool, second_correct: bool) -> list[Shortfall]:
    shortfalls = []
    if response.first_answer is not None and not first_correct:
        shortfalls.append(Shortfall.FIRST_WRONG)
    if response.second_answer is not None and not second_correct:
        shortfalls.append(Shortfall.SECOND_WRONG)
        shortfalls.append(Shortfall.REFLECTION_BROKE_ANSWER if first_correct else Shortfall.REFLECTION_FIXED_NOTHING)
    return shortfalls


def _length_shortfalls(deviation: float | None) -> list[Shortfall]:
    if deviation is None or abs(deviation) <= 1:
        return []
    return [Shortfall.TOO_LONG if deviation > 0 else Shortfall.TOO_SHORT]

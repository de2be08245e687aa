"""Rule-based rewards: a completion's text and the gold -> a Score with its parts and reasons.

SRPO, equations 4-8:  total = R_format + R_accuracy + I_eff + I_ref + length_weight * f_len
A malformed completion earns the parts that are there; I_eff and f_len need two answers.
What else reward.variant may name is below it, each a function: the published code's table, two steps, one answer, and
a function of the user's own (reward_function.py).
"""

import math
import re
from collections.abc import Callable
from enum import StrEnum
from functools import partial

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from srpo_fast.expressions import is_correct
from srpo_fast.responses import SRPO_FORM, Response, Segment, final_value, parse
from srpo_fast.reward_function import RewardFunction, load_reward_function

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
OPENRLHF_ACCURACY = {  # likewise; of accuracy and effectiveness together
    (True, True): 0.75,
    (False, True): 1.0,
    (False, False): 0.0,
    (True, False): 0.25,
}

_BLOCK_OF_NOTHING = re.compile(r"<(think|answer|reflection)></\1>")


class Shortfall(StrEnum):
    """What answers and length did not earn; responses.Fault names what is wrong with the form."""

    FIRST_WRONG = "first_wrong"  # there is a first answer, and it is not the gold
    SECOND_WRONG = "second_wrong"
    REFLECTION_BROKE_ANSWER = "reflection_broke_answer"  # right, then wrong
    REFLECTION_FIXED_NOTHING = "reflection_fixed_nothing"  # wrong, then wrong
    TOO_SHORT = "too_short"  # f_len below 1/e, on either side
    TOO_LONG = "too_long"
    NOT_TWO_SOLUTIONS = "not_two_solutions"  # fewer than two thinks or answers: openrlhf pays nothing at all


def make_scorer(settings: RewardConfig, num_tokens: TokenCounter) -> Scorer:
    """The scorer that `settings.variant` names. `num_tokens` counts the tokens of a text, no special ones added."""
    match settings.variant:
        case "paper":
            return partial(paper_score, settings=settings, num_tokens=num_tokens)
        case "openrlhf":
            return partial(openrlhf_score, settings=settings, num_tokens=num_tokens)
        case "two_step":
            return lambda text, gold, total_tokens: two_step_score(text, gold, settings)
        case "grpo":
            return lambda text, gold, total_tokens: grpo_score(text, gold)
        case path_and_name:
            function = load_reward_function(path_and_name)
            return lambda text, gold, total_tokens: own_score(text, gold, function)


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
        effectiveness=_effectiveness(response, first_correct, second_correct, settings),
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


def openrlhf_score(
    text: str, gold: str, total_tokens: int, *, settings: RewardConfig, num_tokens: TokenCounter
) -> Score:
    """The published code's reward: it pays most for a corrected answer, and nothing without two solutions.

    One number pays for both answers and stands in `accuracy`; one 0.5 pays for the whole form. As published, text
    before the first think block and blocks of blanks are forgiven, though `reasons` names them. Not as published,
    answers are read and compared as everywhere here: whatever their spacing, any choice letter, no reward for a letter
    somewhere in the text or for a gold that cannot be parsed.
    """
    response = parse(text)
    first_correct, second_correct = _is_right(response.first_answer, gold), _is_right(response.second_answer, gold)
    shortfalls = _answer_shortfalls(response, first_correct, second_correct)
    if response.second_think is None or response.second_answer is None:
        return _score(
            first_correct=first_correct,
            second_correct=second_correct,
            reasons=(*response.reasons, *shortfalls, Shortfall.NOT_TWO_SOLUTIONS),
        )
    deviation = _length_deviation(response, total_tokens, settings, num_tokens)
    return _score(
        format=FORMAT * _has_openrlhf_form(text, response.segments),
        accuracy=OPENRLHF_ACCURACY[first_correct, second_correct],
        length=0.0 if deviation is None else settings.length_weight * length_bonus(deviation),
        first_correct=first_correct,
        second_correct=second_correct,
        reasons=(*response.reasons, *shortfalls, *_length_shortfalls(deviation)),
    )


def two_step_score(text: str, gold: str, settings: RewardConfig) -> Score:
    """The two-step baseline's: R_task in the two-step form, and I_eff for what the second step did to the answer.

    The paper calls the latter a relational reward inspired by equation 8 and gives no formula; here it is equation 8.
    """
    response = parse(text)
    first_correct, second_correct = _is_right(response.first_answer, gold), _is_right(response.second_answer, gold)
    return _score(
        format=FORMAT * response.is_two_step_well_formed,
        accuracy=ACCURACY * first_correct,
        effectiveness=_effectiveness(response, first_correct, second_correct, settings),
        first_correct=first_correct,
        second_correct=second_correct,
        reasons=(*response.two_step_reasons, *_answer_shortfalls(response, first_correct, second_correct)),
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


def own_score(text: str, gold: str, function: RewardFunction) -> Score:
    """What the user's function pays. Where it does not say which answers are right, the grammar and the gold do.

    Of a single answer both are that one, as in plain GRPO: the form is the user's affair.
    """
    response = parse(text)
    last_answer = response.first_answer if response.second_answer is None else response.second_answer
    correct = {"first_correct": _is_right(response.first_answer, gold), "second_correct": _is_right(last_answer, gold)}
    return _score(**correct | function(text, gold))


def length_bonus(deviation: float) -> float:
    """f_len of equation 7, in [0, 1]. deviation: (L - T_target) / (T_max - T_target)."""
    return math.exp(-(deviation**2))


def _score(
    *,
    format: float = 0.0,
    accuracy: float = 0.0,
    effectiveness: float = 0.0,
    reflection_format: float = 0.0,
    length: float = 0.0,
    first_correct: bool,
    second_correct: bool,
    reasons: tuple[str, ...] = (),
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


def _effectiveness(response: Response, first_correct: bool, second_correct: bool, settings: RewardConfig) -> float:
    if response.second_answer is None:
        return 0.0
    return settings.effectiveness_weight * EFFECTIVENESS[first_correct, second_correct]


def _has_openrlhf_form(text: str, segments: tuple[Segment, ...]) -> bool:
    """Five closed blocks at the end of the text, a character or more in each, and no other tag before them."""
    preamble, blocks = segments[: -len(SRPO_FORM)], segments[-len(SRPO_FORM) :]
    is_form = [segment.kind for segment in blocks if segment.fault is None] == list(SRPO_FORM)
    return is_form and all(segment.kind == "text" for segment in preamble) and not _BLOCK_OF_NOTHING.search(text)


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

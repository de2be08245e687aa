"""Rule-based rewards: a completion that is read and graded -> a Score with its parts and reasons.

SRPO, equations 4-8:  total = R_format + R_accuracy + I_eff + I_ref + length_weight * f_len
A malformed completion earns the parts that are there; I_eff and f_len need two answers. An answer whose comparison with
the gold took too long or crashed is paid like a wrong one, and leaves nothing to compare for I_eff.

What else reward.variant may name: two steps and one answer, both below; the published code's table
(openrlhf.py); a function of the user's own (own.py). scoring.py goes from texts to all of these.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from srpo_fast.grading import Verdict
from srpo_fast.grading.grader import Check
from srpo_fast.responses import SINGLE_FORM, SRPO_FORM, TWO_STEP_FORM, Response

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
    """What answers and length did not earn, and what kept them from being graded.

    responses.Fault names what is wrong with the form; a function of the user's own may give reasons of its own.
    """

    FIRST_WRONG = "first_wrong"  # there is a first answer, and it is not the gold
    SECOND_WRONG = "second_wrong"
    REFLECTION_BROKE_ANSWER = "reflection_broke_answer"  # right, then wrong
    REFLECTION_FIXED_NOTHING = "reflection_fixed_nothing"  # wrong, then wrong
    TOO_SHORT = "too_short"  # f_len below 1/e, on either side
    TOO_LONG = "too_long"
    NOT_TWO_SOLUTIONS = "not_two_solutions"  # fewer than two thinks or answers where that earns nothing at all
    UNPARSABLE_GOLD = "unparsable_gold"  # the answer is not the gold's text, and the gold says nothing else
    GRADING_TIMEOUT = "grading_timeout"  # comparing an answer with the gold took longer than reward.time_limit
    GRADING_CRASH = "grading_crash"  # it ended its process, or raised an error
    REWARD_FUNCTION_ERROR = "reward_function_error"  # the user's function raised an error,
    REWARD_FUNCTION_TIMEOUT = "reward_function_timeout"  # took longer than reward.time_limit,
    REWARD_FUNCTION_CRASH = "reward_function_crash"  # or ended its process


_NOT_RIGHT = {
    Verdict.UNPARSABLE_GOLD: Shortfall.UNPARSABLE_GOLD,
    Verdict.TIMEOUT: Shortfall.GRADING_TIMEOUT,
    Verdict.CRASH: Shortfall.GRADING_CRASH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A completion, read and graded: all that its reward depends on."""

    text: str
    response: Response
    first: Check | None  # of the first answer; None: there is none
    second: Check | None  # of the second
    total_tokens: int = 0  # of the completion as generated, tags included, end-of-turn excluded
    first_tokens: int = 0  # of the first solution's inner texts; both are 0 where no length is paid

    @property
    def first_correct(self) -> bool:
        return self.first is not None and self.first.verdict is Verdict.RIGHT

    @property
    def second_correct(self) -> bool:
        """Whether there is a second answer and it is right."""
        return self.second is not None and self.second.verdict is Verdict.RIGHT

    @property
    def failure(self) -> str | None:
        """Why an answer could not be graded; None when every answer was."""
        return next((check.failure for check in (self.first, self.second) if check and check.failure), None)

    @property
    def has_two_solutions(self) -> bool:
        return self.response.second_think is not None and self.response.second_answer is not None


def paper_score(graded: Graded, settings: RewardConfig) -> Score:
    """SRPO's reward: R_format reads the two think-answer pairs, I_ref the reflection, R_accuracy the first answer.

    With settings.malformed "zero", a completion without two solutions earns nothing, as in the published code.
    """
    response = graded.response
    if settings.malformed == "zero" and not graded.has_two_solutions:
        return nothing_for_one_solution(graded)
    deviation = length_deviation(graded, settings)
    return score_of(
        graded,
        format=FORMAT * response.has_well_formed_solutions,
        accuracy=ACCURACY * graded.first_correct,
        effectiveness=effectiveness(graded, settings),
        reflection_format=REFLECTION_FORMAT * response.has_well_formed_reflection,
        length=length_part(deviation, settings),
        reasons=(*response.faults(SRPO_FORM), *answer_shortfalls(graded), *length_shortfalls(deviation)),
    )


def two_step_score(graded: Graded, settings: RewardConfig) -> Score:
    """The two-step baseline's: R_task in the two-step form, and I_eff for what the second step did to the answer.

    The paper calls the latter a relational reward inspired by equation 8 and gives no formula; here it is equation 8.
    """
    return score_of(
        graded,
        format=FORMAT * graded.response.has_form(TWO_STEP_FORM),
        accuracy=ACCURACY * graded.first_correct,
        effectiveness=effectiveness(graded, settings),
        reasons=(*graded.response.faults(TWO_STEP_FORM), *answer_shortfalls(graded)),
    )


def grpo_score(graded: Graded) -> Score:
    """Plain GRPO's reward: the single-answer form and its answer; both answers of the Score are that one."""
    return score_of(
        graded,
        format=FORMAT * graded.response.has_form(SINGLE_FORM),
        accuracy=ACCURACY * graded.first_correct,
        second_correct=graded.first_correct,
        reasons=(*graded.response.faults(SINGLE_FORM), *_shortfall(graded.first, Shortfall.FIRST_WRONG)),
    )


def length_bonus(deviation: float) -> float:
    """f_len of equation 7, in [0, 1]. deviation: (L - T_target) / (T_max - T_target)."""
    return math.exp(-(deviation**2))


# --- what the variants are made of ---


def score_of(
    graded: Graded,
    *,
    format: float = 0.0,
    accuracy: float = 0.0,
    effectiveness: float = 0.0,
    reflection_format: float = 0.0,
    length: float = 0.0,
    second_correct: bool | None = None,
    reasons: tuple[str, ...] = (),
) -> Score:
    """The Score of these parts; second_correct: None, whether the second answer is right."""
    return Score(
        total=format + accuracy + effectiveness + reflection_format + length,
        format=format,
        accuracy=accuracy,
        effectiveness=effectiveness,
        reflection_format=reflection_format,
        length=length,
        first_correct=graded.first_correct,
        second_correct=graded.second_correct if second_correct is None else second_correct,
        reasons=tuple(dict.fromkeys(reasons)),
        failure=graded.failure,
    )


def nothing_for_one_solution(graded: Graded) -> Score:
    """The published code's gate: two think and two answer blocks, or nothing."""
    reasons = (*graded.response.faults(SRPO_FORM), *answer_shortfalls(graded), Shortfall.NOT_TWO_SOLUTIONS)
    return score_of(graded, reasons=reasons)


def effectiveness(graded: Graded, settings: RewardConfig) -> float:
    """I_eff of equation 8, weighted; 0 without a second answer, or where one could not be graded."""
    if graded.second is None or graded.failure is not None:
        return 0.0
    return settings.effectiveness_weight * EFFECTIVENESS[graded.first_correct, graded.second_correct]


def length_deviation(graded: Graded, settings: RewardConfig) -> float | None:
    """Distance from the target length in units of T_max - T_target; None without two answers or a first length."""
    if graded.second is None or graded.first_tokens == 0:
        return None
    ratio = graded.total_tokens / graded.first_tokens
    return (ratio - settings.target_ratio) / (settings.max_ratio - settings.target_ratio)


def length_part(deviation: float | None, settings: RewardConfig) -> float:
    return 0.0 if deviation is None else settings.length_weight * length_bonus(deviation)


def length_shortfalls(deviation: float | None) -> list[Shortfall]:
    if deviation is None or abs(deviation) <= 1:
        return []
    return [Shortfall.TOO_LONG if deviation > 0 else Shortfall.TOO_SHORT]


def answer_shortfalls(graded: Graded) -> list[Shortfall]:
    shortfalls = [
        *_shortfall(graded.first, Shortfall.FIRST_WRONG),
        *_shortfall(graded.second, Shortfall.SECOND_WRONG),
    ]
    if graded.second is not None and not graded.second_correct and graded.failure is None:
        broke = graded.first_correct
        shortfalls.append(Shortfall.REFLECTION_BROKE_ANSWER if broke else Shortfall.REFLECTION_FIXED_NOTHING)
    return shortfalls


def _shortfall(check: Check | None, if_wrong: Shortfall) -> list[Shortfall]:
    """What keeps this answer from being right."""
    if check is None or check.verdict is Verdict.RIGHT:
        return []
    return [_NOT_RIGHT.get(check.verdict, if_wrong)]

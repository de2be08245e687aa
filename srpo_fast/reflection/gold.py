r"""The ground truth as an answer: whether an answer block gives it, and the block that does.

Second answers are always boxed, as the prompts of stage 2 ask for; its reward reads a boxed value and a whole block
alike. The published file has the bare ground truth in its place.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from srpo_fast.config import RewardConfig
from srpo_fast.grading import Verdict
from srpo_fast.grading.grader import Grader
from srpo_fast.responses import final_value
from srpo_fast.rewards.scoring import gold_of

_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '-][^\W\d_]+)*")  # TeX would set them as a product of variables
_MATH_SPAN = re.compile(r"\$+([^$]*)\$+")


@dataclass(frozen=True, slots=True)
class Claim:
    """An answer block and the truth it is compared with."""

    block: str
    question: str
    gold: str


class GoldCheck:
    """Tells right answers from wrong ones as stage 2's reward does."""

    def __init__(self, settings: RewardConfig) -> None:
        self._settings = settings
        self._grader = Grader(settings)

    def are_right(self, claims: Sequence[Claim]) -> list[bool]:
        """Of every claim. One that cannot be decided in time counts as wrong."""
        pairs = [(final_value(c.block), gold_of(c.gold, c.question, self._settings)) for c in claims]
        checks = self._grader.checks(pairs)
        return [checks[pair].verdict is Verdict.RIGHT for pair in pairs]

    def is_right(self, block: str, question: str, gold: str) -> bool:
        return self.are_right([Claim(block, question, gold)])[0]

    def close(self) -> None:
        self._grader.close()


def boxed_gold(gold: str) -> str:
    r"""The inner text of the answer block: $\boxed{...}$ around the ground truth."""
    value = final_value(gold)
    if span := _MATH_SPAN.fullmatch(value):
        value = span[1].strip()
    return rf"$\boxed{{\text{{{value}}}}}$" if _WORDS.fullmatch(value) else rf"$\boxed{{{value}}}$"

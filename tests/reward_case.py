"""What the tests of rewards share: scoring one text, in words."""

from collections.abc import Callable, Sequence

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from srpo_fast.grading import Gold
from srpo_fast.grading.grader import Grader
from srpo_fast.rewards.scoring import Sample, make_scorer

REFLECTION = "<reflection>check</reflection>"


def solution(value: str) -> str:
    return rf"<think>a b c d e f g</think><answer>$\boxed{{{value}}}$</answer>"


RIGHT, WRONG = solution("2"), solution("3")
# seven words of thought and one of answer: the first response has 8 "tokens", the target is 16, the maximum 20
FIRST, TARGET = 8, 16

ScoreOne = Callable[[str, str, int], Score]  # text, gold, tokens of the completion


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def score_one(settings: RewardConfig, grader: Grader | None = None) -> ScoreOne:
    """A function that scores one completion."""
    scorer = make_scorer(settings, count_words, grader or Grader(settings))

    def score(text: str, gold: str, total_tokens: int) -> Score:
        (scored,) = scorer([Sample(text=text, gold=Gold(text=gold), total_tokens=total_tokens)])
        return scored

    return score

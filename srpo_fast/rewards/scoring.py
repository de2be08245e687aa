"""Completions in, Scores out, many at a time: each text is read once, and each distinct answer compared once.

What the variants pay is in paper.py, openrlhf.py and own.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig
from srpo_fast.grading import Gold, Tolerance
from srpo_fast.grading.choices import options_in
from srpo_fast.grading.grader import Grader
from srpo_fast.responses import Response, final_value, parse
from srpo_fast.rewards.openrlhf import openrlhf_score
from srpo_fast.rewards.own import own_score, start_reward_function
from srpo_fast.rewards.own_function import VERDICTS
from srpo_fast.rewards.paper import Graded, grpo_score, paper_score, two_step_score
from srpo_fast.workers.pool import Done, WorkerPool

TokenCounter = Callable[[Sequence[str]], list[int]]  # how many tokens each text is by itself, no special ones added


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A completion to be scored."""

    text: str  # special tokens removed
    gold: Gold
    total_tokens: int | None = None  # as generated, end-of-turn excluded; None: to be counted if it matters


Scorer = Callable[[Sequence[Sample]], list[Score]]


def make_scorer(settings: RewardConfig, count_tokens: TokenCounter, grader: Grader) -> Scorer:
    """The scorer that settings.variant names. Raises UserError if that is a function that cannot be loaded."""
    match settings.variant:
        case "paper" | "openrlhf":
            rule = paper_score if settings.variant == "paper" else openrlhf_score
            return lambda samples: [rule(g, settings) for g in measured(samples, graded(samples, grader), count_tokens)]
        case "two_step":
            return lambda samples: [two_step_score(g, settings) for g in graded(samples, grader)]
        case "grpo":
            return lambda samples: [grpo_score(g) for g in graded(samples, grader, _only_the_first)]
        case path_and_name:
            return partial(_own_scores, workers=start_reward_function(path_and_name, settings), grader=grader)


def gold_of(answer: str, question: str, settings: RewardConfig) -> Gold:
    """What answers to `question` are compared with. answer: the ground truth."""
    tolerance = Tolerance(
        relative=settings.relative_tolerance, absolute=settings.absolute_tolerance, decimals=settings.decimals
    )
    return Gold(text=answer, options=options_in(question), tolerance=tolerance)


Answers = tuple[str | None, str | None]  # the first and the second answer block; None: none, or it does not count


def _first_and_second(response: Response) -> Answers:
    return response.first_answer, response.second_answer


def _only_the_first(response: Response) -> Answers:
    return response.first_answer, None


def _first_and_last(response: Response) -> Answers:
    first, second = response.first_answer, response.second_answer
    return first, first if second is None else second


def graded(
    samples: Sequence[Sample], grader: Grader, answers_of: Callable[[Response], Answers] = _first_and_second
) -> list[Graded]:
    """The samples, read and graded, no lengths measured."""
    responses = [parse(sample.text) for sample in samples]
    pairs = [  # of every sample two
        [None if answer is None else (final_value(answer), sample.gold) for answer in answers_of(response)]
        for sample, response in zip(samples, responses, strict=True)
    ]
    checks = grader.checks(pair for two in pairs for pair in two if pair)
    return [
        Graded(
            text=sample.text,
            response=response,
            first=checks[first] if first else None,
            second=checks[second] if second else None,
        )
        for sample, response, (first, second) in zip(samples, responses, pairs, strict=True)
    ]


def measured(samples: Sequence[Sample], graded: Sequence[Graded], count_tokens: TokenCounter) -> list[Graded]:
    """With the lengths of those that have two answers: the others are paid for none."""
    paid = [number for number, g in enumerate(graded) if g.second is not None]
    texts = [part or "" for i in paid for part in (graded[i].response.first_think, graded[i].response.first_answer)]
    uncounted = [number for number in paid if samples[number].total_tokens is None]
    counts = count_tokens([*texts, *(samples[number].text for number in uncounted)])
    totals = {number: samples[number].total_tokens for number in paid}
    totals |= dict(zip(uncounted, counts[len(texts) :], strict=True))
    result = list(graded)
    for place, number in enumerate(paid):
        first_tokens = counts[2 * place] + counts[2 * place + 1]
        result[number] = replace(graded[number], total_tokens=totals[number] or 0, first_tokens=first_tokens)
    return result


def _own_scores(samples: Sequence[Sample], *, workers: WorkerPool, grader: Grader) -> list[Score]:
    """What the user's function pays. Where it does not say which answers are right, the grammar and the gold do.

    Of a single answer both are that one, as in plain GRPO: the form is the user's affair.
    """
    outcomes = workers.run([(sample.text, sample.gold.text) for sample in samples])
    unsaid = [
        number
        for number, outcome in enumerate(outcomes)
        if isinstance(outcome, Done) and not outcome.value.keys() >= VERDICTS
    ]
    ours = dict(zip(unsaid, graded([samples[number] for number in unsaid], grader, _first_and_last), strict=True))
    return [own_score(outcome, ours.get(number)) for number, outcome in enumerate(outcomes)]

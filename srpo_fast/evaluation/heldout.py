"""Accuracy of the first and the second answer on held-out questions, sampled and greedy."""

from collections.abc import Sequence

from srpo_fast.answer_format import AnswerFormat
from srpo_fast.batch import HeldOut, Prompt, Score, Transitions
from srpo_fast.parallel import Parallel
from srpo_fast.rollout import RolloutEngine, Sampling, sample_groups
from srpo_fast.rollout.engine import Progress

SAMPLED_TEMPERATURE = 1.0


def evaluate(
    engine: RolloutEngine, prompts: Sequence[Prompt], answer_format: AnswerFormat, *, max_tokens: int,
    stream: tuple[int | str, ...], policy_version: int, parallel: Parallel, progress: Progress,
) -> HeldOut:  # fmt: skip
    """One sampled and one greedy completion of every prompt; `stream` fixes the samples."""

    def scores(temperature: float) -> list[Score]:
        sampling = Sampling(samples=1, temperature=temperature, max_tokens=max_tokens, stream=stream)
        groups = sample_groups(
            engine, prompts, sampling, answer_format.score, policy_version=policy_version, parallel=parallel,
            progress=progress,
        )  # fmt: skip
        return [group.scores[0] for group in groups]

    sampled, greedy = scores(SAMPLED_TEMPERATURE), scores(0.0)
    two = answer_format.num_answers == 2
    return HeldOut(
        num_questions=len(prompts),
        acc1=_share([s.first_correct for s in sampled]),
        acc2=_share([s.second_correct for s in sampled]) if two else None,
        greedy_acc1=_share([s.first_correct for s in greedy]),
        greedy_acc2=_share([s.second_correct for s in greedy]) if two else None,
        transitions=Transitions.of(sampled) if two else None,
    )


def _share(verdicts: Sequence[bool]) -> float:
    return sum(verdicts) / len(verdicts)

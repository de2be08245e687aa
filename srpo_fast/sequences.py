"""Scored groups -> the training sequences of a step."""

from collections.abc import Sequence

from torch import Tensor

from srpo_fast.batch import Group, TrainingSequence


def training_sequences(groups: Sequence[Group], advantages_PG: Tensor, kept_P: Tensor) -> list[TrainingSequence]:
    """One sequence a completion of every kept group, its advantage attached.

    groups: P of them. advantages_PG: [P, G] fp32. kept_P: [P] bool.
    """
    return [
        TrainingSequence(
            prompt=group.prompt,
            completion_ids=completion.token_ids,
            loss_mask=(True,) * len(completion.token_ids),
            advantage=float(advantage),
            rollout_logprobs=completion.rollout_logprobs,
            token_weight=0.0,
        )
        for group, advantages, kept in zip(groups, advantages_PG, kept_P, strict=True)
        if kept
        for completion, advantage in zip(group.completions, advantages, strict=True)
    ]


def without_zero_advantage(sequences: Sequence[TrainingSequence]) -> list[TrainingSequence]:
    """Those that have a gradient. Call it after the token weights are set: the others still count in the mean."""
    return [s for s in sequences if s.advantage != 0.0]

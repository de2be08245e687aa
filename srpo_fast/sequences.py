"""Scored groups -> the training sequences of a step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from srpo_fast.advantages import accuracy_filter, flat_groups, group_advantages, overlong_penalty
from srpo_fast.batch import Completion, Group, TrainingSequence
from srpo_fast.config import AdvantageConfig


def group_rewards(groups: Sequence[Group], settings: AdvantageConfig, max_tokens: int) -> Tensor:
    """[P, G]: the scores' totals, less what settings.overlong_share takes from completions near max_tokens."""
    totals_PG = torch.tensor([[score.total for score in group.scores] for group in groups])
    lengths_PG = torch.tensor([[len(completion.token_ids) for completion in group.completions] for group in groups])
    return totals_PG + overlong_penalty(lengths_PG, max_tokens, settings.overlong_share)


def kept_groups(groups: Sequence[Group], settings: AdvantageConfig, max_tokens: int) -> Tensor:
    """[P] bool: the groups that the accuracy filter leaves, and that are not flat where these are dropped."""
    if settings.filter_by == "final_answer":
        accuracy = [[float(score.second_correct) for score in group.scores] for group in groups]
    else:
        accuracy = [[score.accuracy + score.effectiveness for score in group.scores] for group in groups]
    kept_P = accuracy_filter(torch.tensor(accuracy), settings.accuracy_low, settings.accuracy_high)
    if settings.drop_flat_groups:
        kept_P &= ~flat_groups(group_rewards(groups, settings, max_tokens))
    return kept_P


def training_sequences(groups: Sequence[Group], settings: AdvantageConfig, max_tokens: int) -> list[TrainingSequence]:
    """One sequence a completion with its advantage within its group, of the groups that were kept.

    Truncated completions are left out where settings.mask_truncated says so; the advantages of the others know of them.
    """
    if not groups:
        return []
    advantages_PG = group_advantages(group_rewards(groups, settings, max_tokens), settings.scale)
    return [
        TrainingSequence(
            prompt=group.prompt,
            completion_ids=completion.token_ids,
            loss_mask=(True,) * len(completion.token_ids),
            advantage=float(advantage),
            rollout_logprobs=completion.rollout_logprobs,
            token_weight=0.0,
            older_tokens=_older_tokens(completion, group),
        )
        for group, advantages in zip(groups, advantages_PG, strict=True)
        for completion, advantage in zip(group.completions, advantages, strict=True)
        if completion.is_finished or not settings.mask_truncated
    ]


def _older_tokens(completion: Completion, group: Group) -> int:
    """A group is trained in the step that sampled its last completion's end, so its newest version is the step's."""
    newest = max(c.policy_version for c in group.completions)
    if completion.policy_version < newest:
        return len(completion.token_ids)
    return sum(version < newest for version in completion.token_versions)


def without_zero_advantage(sequences: Sequence[TrainingSequence]) -> list[TrainingSequence]:
    """Those that have a gradient, without KL and entropy terms. Call it after the token weights are set: the others
    still count in the mean."""
    return [s for s in sequences if s.advantage != 0.0]

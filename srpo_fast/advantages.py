"""Rewards [P, G] -> advantages [P, G] (SRPO equation 3), and which groups are worth training on.

With r the rewards of a group, mean and std its mean and its unbiased standard deviation (n - 1), and 1e-6 added to it:

    group_std   A_i = (r_i - mean(r)) / (std(r) + 1e-6)     SRPO, GRPO; the published code adds 1e-9
    batch_std   A_i = (r_i - mean(r)) / (std of all rewards of the step's kept groups + 1e-6)     arXiv 2508.08221
    none        A_i =  r_i - mean(r)                        Dr.GRPO

A group whose rewards span less than 1e-6 is flat: its advantages are exactly 0, whatever the scale. The accuracy filter
comes first, so dropped groups take no part in batch_std.
"""

from typing import Literal

import torch
from torch import Tensor

Scale = Literal["group_std", "batch_std", "none"]

FLAT_SPREAD = 1e-6  # a group whose rewards span less tells its completions apart by rounding only
STD_FLOOR = 1e-6  # added to the standard deviation


def group_advantages(rewards_PG: Tensor, scale: Scale) -> Tensor:
    """[P, G] fp32: each reward minus its group's mean, divided as `scale` says; computed in float64."""
    assert rewards_PG.ndim == 2, f"{rewards_PG.shape=}, expected [P, G]"
    assert rewards_PG.isfinite().all(), "a reward is not finite"
    rewards_PG = rewards_PG.double()
    centred_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if scale != "none":
        centred_PG /= _std(rewards_PG if scale == "group_std" else rewards_PG.reshape(1, -1))
    return torch.where(flat_groups(rewards_PG)[:, None], 0.0, centred_PG).float()


def _std(rewards: Tensor) -> Tensor:
    """[rows, 1] unbiased, of each row; a row of one reward is flat anyway."""
    return rewards.std(dim=1, correction=min(1, rewards.shape[1] - 1), keepdim=True) + STD_FLOOR


def flat_groups(rewards_PG: Tensor) -> Tensor:
    """[P] bool: the groups whose rewards are all equal, up to rounding."""
    return rewards_PG.amax(dim=1) - rewards_PG.amin(dim=1) < FLAT_SPREAD


def accuracy_filter(accuracy_PG: Tensor, low: float, high: float) -> Tensor:
    """[P] bool: the groups whose mean accuracy is in [low, high], bounds included.

    accuracy_PG: [P, G], bool (is the final answer right) or the shaped accuracy of the published code, which differ: a
    group that is right throughout has mean 1 by the first and goes, 0.75 by the second (first and second answer right)
    and stays.
    """
    share_P = accuracy_PG.double().sum(dim=1) / accuracy_PG.shape[1]
    return (low <= share_P) & (share_P <= high)


def overlong_penalty(lengths_PG: Tensor, max_tokens: int, share: float) -> Tensor:
    """[P, G] fp64 in [-1, 0], added to the rewards: DAPO's soft overlong punishment (arXiv 2503.14476).

    0 up to (1 - share) * max_tokens tokens, from there linear to -1 at max_tokens; 0 everywhere for share 0.
    """
    buffer = share * max_tokens
    if buffer == 0:
        return torch.zeros(lengths_PG.shape, dtype=torch.float64)
    return ((max_tokens - buffer - lengths_PG.double()) / buffer).clamp(-1.0, 0.0)

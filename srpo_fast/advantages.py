"""Rewards [P, G] -> advantages [P, G] (SRPO equation 3), and which groups are worth training on."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Scale = Literal["group_std", "none"]

FLAT_SPREAD = 1e-6  # a group whose rewards span less tells its completions apart by rounding only
STD_FLOOR = 1e-6  # added to the standard deviation


def _group_std(centred_PG: Tensor) -> Tensor:
    degrees = max(centred_PG.shape[1] - 1, 1)  # a group of one is flat anyway
    return (centred_PG.square().sum(dim=1, keepdim=True) / degrees).sqrt() + STD_FLOOR


def _unscaled(centred_PG: Tensor) -> Tensor:
    return torch.ones_like(centred_PG[:, :1])


# what the centred rewards are divided by, [P, 1]
_DIVISORS: dict[Scale, Callable[[Tensor], Tensor]] = {"group_std": _group_std, "none": _unscaled}


def group_advantages(rewards_PG: Tensor, scale: Scale) -> Tensor:
    """[P, G] fp32: each reward minus its group's mean, divided as `scale` says; computed in float64.

    "group_std": divided by the group's unbiased standard deviation + 1e-6. "none": not divided.
    A group whose rewards differ by less than 1e-6 has advantages of exactly zero.
    """
    assert rewards_PG.ndim == 2, f"{rewards_PG.shape=}, expected [P, G]"
    assert rewards_PG.isfinite().all(), "a reward is not finite"
    rewards_PG = rewards_PG.double()
    centred_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    is_flat_P1 = rewards_PG.amax(dim=1, keepdim=True) - rewards_PG.amin(dim=1, keepdim=True) < FLAT_SPREAD
    return torch.where(is_flat_P1, 0.0, centred_PG / _DIVISORS[scale](centred_PG)).float()


def accuracy_filter(second_correct_PG: Tensor, low: float, high: float) -> Tensor:
    """[P] bool: the groups whose share of completions with a right final answer is in [low, high], bounds included.

    second_correct_PG: [P, G] bool. The statistic is binary, unlike the mean of shaped accuracy rewards in the published
    code, by which a group that is right throughout stays.
    """
    share_P = second_correct_PG.double().sum(dim=1) / second_correct_PG.shape[1]
    return (low <= share_P) & (share_P <= high)

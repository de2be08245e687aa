"""The groups of a step: sampled, filtered and, where the filter left too few, refilled with further prompts.

This is DAPO's dynamic sampling with a bounded number of rounds; without refill rounds it is one round of the same code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from srpo_fast.batch import Group, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a step sampled, in the order in which its prompts were drawn."""

    groups: tuple[Group, ...]  # P of them, dropped ones included
    kept_P: Tensor  # [P] bool, those to train on
    rounds: int  # of sampling
    missing: int  # prompts asked for that did not come: too long, or none left

    @property
    def kept(self) -> list[Group]:
        return [group for group, kept in zip(self.groups, self.kept_P.tolist(), strict=True) if kept]

    @property
    def metrics(self) -> dict[str, float]:
        return {
            "rollout/rounds": float(self.rounds),
            "rollout/groups_sampled": float(len(self.groups)),
            "rollout/prompts_missing": float(self.missing),
        }


def collect_groups(
    draw: Callable[[int], list[Prompt]], sample: Callable[[list[Prompt]], list[Group]],
    keep: Callable[[Sequence[Group]], Tensor], *, wanted: int, refill_rounds: int,
) -> Collection:  # fmt: skip
    """Samples `wanted` prompts, and more in up to refill_rounds rounds until as many groups are kept.

    draw: n -> at most n prompts that the step does not have yet. keep: groups -> [P] bool. A refill draws as many
    prompts as fill the gap at the share kept so far, at most `wanted`. Of the kept groups the first `wanted` in the
    order of drawing train; a surplus is cut from the end. All of it follows from the draws and the groups, so every
    rank decides alike. It ends early when no prompts are left to draw.
    """
    groups: list[Group] = []
    kept_P = torch.zeros(0, dtype=torch.bool)
    rounds = missing = 0
    asked = wanted
    while asked and rounds <= refill_rounds:
        prompts = draw(asked)
        missing += asked - len(prompts)
        if not prompts:
            break
        new = sample(prompts)
        groups += new
        kept_P = torch.cat([kept_P, keep(new)])
        rounds += 1
        asked = _to_draw(int(kept_P.sum()), len(groups), wanted)
    kept_P &= kept_P.cumsum(0) <= wanted
    return Collection(groups=tuple(groups), kept_P=kept_P, rounds=rounds, missing=missing)


def _to_draw(kept: int, sampled: int, wanted: int) -> int:
    """How many prompts are expected to bring the missing groups; 0 when none is missing."""
    missing = max(0, wanted - kept)
    return min(wanted, ceil(missing * sampled / kept)) if kept else wanted

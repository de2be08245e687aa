"""The groups of a step: sampled, filtered and, where the filter left too few, refilled with further prompts.

This is DAPO's dynamic sampling with a bounded number of rounds; without refill rounds it is one round of the same code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import torch
from torch import Tensor

from srpo_fast.batch import Group, Prompt
from srpo_fast.config import Config
from srpo_fast.monitor.metrics import PhaseTimer
from srpo_fast.prompt_source import PromptSource
from srpo_fast.rollout import Sampling
from srpo_fast.sequences import kept_groups

Sample = Callable[[Sequence[Prompt | Group]], list[Group]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a step sampled, in the order in which its prompts were drawn."""

    groups: tuple[Group, ...]  # P of them, dropped ones included
    kept_P: Tensor  # [P] bool, those to train on
    rounds: int  # of sampling
    carried: int = 0  # completions that were begun and are left to the next step

    @property
    def kept(self) -> list[Group]:
        return [group for group, kept in zip(self.groups, self.kept_P.tolist(), strict=True) if kept]

    @property
    def metrics(self) -> dict[str, float]:
        counts = {"rounds": self.rounds, "groups_sampled": len(self.groups), "carried": self.carried}
        return {f"rollout/{name}": float(count) for name, count in counts.items()}


def collect_step(prompts: PromptSource, sample: Sample, config: Config, timer: PhaseTimer) -> Collection:
    """The groups of one step, as the sections data, rollout and advantage say. A collective, as drawing is."""

    def draw(count: int) -> list[Prompt | Group]:
        with timer("data"):
            carried = prompts.take_carried()
            return [*carried, *prompts.draw(count - len(carried))]

    still_open: list[Group] = []

    def whole(asked: Sequence[Prompt | Group]) -> list[Group]:
        groups = sample(asked)
        still_open.extend(group for group in groups if not group.scores)
        return [group for group in groups if group.scores]

    prompts.start_step()
    keep = partial(kept_groups, settings=config.advantage, max_tokens=config.rollout.max_tokens)
    collected = collect_groups(
        draw, lambda: prompts.left_in_step, whole, keep, wanted=config.data.prompts_per_step,
        refill_rounds=config.rollout.refill_rounds,
    )  # fmt: skip
    prompts.carry(still_open)
    carried = sum(c.is_open(config.rollout.max_tokens) for group in still_open for c in group.completions)
    return replace(collected, carried=carried)


def rollout_sampling(config: Config, step: int) -> Sampling:
    """How a step samples. The last one leaves nothing open."""
    r = config.rollout
    return Sampling(
        samples=r.group_size, temperature=r.temperature, max_tokens=r.max_tokens,
        stream=(config.run.seed, "rollout", step), finish_share=r.finish_share if step + 1 < config.steps else 1.0,
        sharing=r.sharing,
    )  # fmt: skip


def collect_groups(
    draw: Callable[[int], list[Prompt | Group]], left: Callable[[], int], sample: Sample,
    keep: Callable[[Sequence[Group]], Tensor], *, wanted: int, refill_rounds: int,
) -> Collection:  # fmt: skip
    """Samples `wanted` prompts, and more in up to refill_rounds rounds until as many groups are kept.

    draw: n -> n prompts that the step does not have yet. left: how many of those there are. keep: groups -> [P] bool.
    A refill draws as many prompts as fill the gap at the share kept so far, at most `wanted`, or what is left. Of the
    kept groups the first `wanted` in the order of drawing train; a surplus is cut from the end. All of it follows from
    the draws and the groups, so every rank decides alike.
    """
    groups: list[Group] = []
    kept_P = torch.zeros(0, dtype=torch.bool)
    rounds, asked = 0, wanted
    while asked and rounds <= refill_rounds:
        new = sample(draw(asked))
        groups += new
        kept_P = torch.cat([kept_P, keep(new)])
        rounds += 1
        asked = min(left(), _to_draw(int(kept_P.sum()), len(groups), wanted))
    kept_P &= kept_P.cumsum(0) <= wanted
    return Collection(groups=tuple(groups), kept_P=kept_P, rounds=rounds)


def _to_draw(kept: int, sampled: int, wanted: int) -> int:
    """How many prompts are expected to bring the missing groups; 0 when none is missing."""
    missing = max(0, wanted - kept)
    return min(wanted, ceil(missing * sampled / kept)) if kept else wanted

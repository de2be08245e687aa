"""Sampling over all engines of the world: each takes its share of the prompts, everyone gets every group."""

from collections.abc import Callable, Sequence
from typing import Any

from srpo_fast.batch import Completion, Group, Prompt, Score
from srpo_fast.parallel import Parallel, gather_from_engines
from srpo_fast.rollout.engine import Progress, RolloutEngine, Sampling

Scorer = Callable[[Completion, Prompt], Score]


def sample_groups(
    engine: RolloutEngine, prompts: Sequence[Prompt], sampling: Sampling, score: Scorer, *, policy_version: int,
    parallel: Parallel, progress: Progress | None = None,
) -> list[Group]:  # fmt: skip
    """One scored group a prompt, in the prompts' order, the same on every rank.

    Which engine samples a prompt does not change the samples: their seeds depend on run, step, prompt and sample only.
    """
    share = range(parallel.engine_rank, len(prompts), parallel.engines)
    completions = engine.generate(
        [prompts[i] for i in share],
        sampling,
        policy_version=policy_version,
        progress=None if progress is None else _scaled(progress, len(share), len(prompts)),
    )
    mine = {
        i: (group, tuple(score(completion, prompts[i]) for completion in group))
        for i, group in zip(share, completions, strict=True)
    }
    everyone: dict[int, Any] = {}
    for theirs in gather_from_engines(mine, parallel):
        everyone |= theirs
    return [Group(prompt=prompt, completions=everyone[i][0], scores=everyone[i][1]) for i, prompt in enumerate(prompts)]


def _scaled(progress: Progress, share: int, total: int) -> Progress:
    """Tells of `total` prompts while `share` of them are done here: the other engines are about as far."""
    done = told = 0

    def report(more: int) -> None:
        nonlocal done, told
        done += more
        now = done * total // share
        progress(now - told)
        told = now

    return report

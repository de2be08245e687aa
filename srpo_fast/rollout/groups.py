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
    report = None if progress is None else lambda n: progress(n * parallel.engines)  # the others are about as far
    share = range(parallel.engine_rank, len(prompts), parallel.engines)
    completions = engine.generate([prompts[i] for i in share], sampling, policy_version=policy_version, progress=report)
    mine = {
        i: (group, tuple(score(completion, prompts[i]) for completion in group))
        for i, group in zip(share, completions, strict=True)
    }
    everyone: dict[int, Any] = {}
    for theirs in gather_from_engines(mine, parallel):
        everyone |= theirs
    return [Group(prompt=prompt, completions=everyone[i][0], scores=everyone[i][1]) for i, prompt in enumerate(prompts)]

"""Sampling over all engines of the world: each takes its share of the prompts, everyone gets every group."""

from collections.abc import Callable, Sequence

from srpo_fast.batch import Completion, Group, Prompt, Score
from srpo_fast.parallel import Parallel, agree, gather_from_engines, gather_from_ranks
from srpo_fast.rollout.engine import Progress, RolloutEngine, Sampling

# prompts with their completions -> their scores
Scorer = Callable[[Sequence[tuple[Prompt, Sequence[Completion]]]], list[tuple[Score, ...]]]


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
    everyone: dict[int, tuple[Completion, ...]] = {}
    for theirs in gather_from_engines(dict(zip(share, completions, strict=True)), parallel):
        everyone |= theirs
    scores = _scored([(prompt, everyone[i]) for i, prompt in enumerate(prompts)], score, parallel)
    return [Group(prompt=prompt, completions=everyone[i], scores=scores[i]) for i, prompt in enumerate(prompts)]


def _scored(
    groups: Sequence[tuple[Prompt, tuple[Completion, ...]]], score: Scorer, parallel: Parallel
) -> dict[int, tuple[Score, ...]]:
    """The scores of every group by its place. Every rank scores a share once, so that all ranks hold the same ones.

    A check may be done in time on one rank and late on another. Raises a UserError of one rank on all.
    """
    share = range(parallel.rank, len(groups), parallel.world)
    mine = agree(lambda: score([groups[i] for i in share]), parallel)
    scores: dict[int, tuple[Score, ...]] = {}
    for theirs in gather_from_ranks(dict(zip(share, mine, strict=True)), parallel):
        scores |= theirs
    return scores


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

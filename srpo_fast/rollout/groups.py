"""Sampling over all engines of the world: each takes its share of the prompts, everyone gets every group."""

import hashlib
from collections.abc import Sequence

import torch

from srpo_fast.batch import Completion, Group, Prompt
from srpo_fast.parallel import Parallel, agree, gather_from_engines, gather_from_ranks, require_equal
from srpo_fast.rollout.background import BackgroundScoring, Scorer
from srpo_fast.rollout.engine import Progress, RolloutEngine, Sampling
from srpo_fast.rollout.partial import begin, extend_groups
from srpo_fast.rollout.sharing import share_out


def sample_groups(
    engine: RolloutEngine, prompts: Sequence[Prompt | Group], sampling: Sampling, score: Scorer, *,
    policy_version: int, parallel: Parallel, progress: Progress | None = None,
) -> list[Group]:  # fmt: skip
    """One scored group a prompt, in the prompts' order, the same on every rank.

    With sampling.finish_share below 1 some groups come back open, without scores; given in a prompt's place, they go on
    (partial.py).

    Which engine samples a prompt does not change the samples: their seeds depend on run, step, prompt and sample only.
    A group is scored as soon as it is done, while its engine samples others. Every group is scored on one rank, so that
    all ranks hold the same scores: a check may be done in time on one and late on another. Raises a UserError of one
    rank on all.
    """
    begun = [p if isinstance(p, Group) else begin(p, sampling.samples) for p in prompts]
    shares = share_out([_tokens_left(engine, group) for group in begun], parallel.engines)
    require_equal("what the engines are asked", _digest(begun, sampling, shares), parallel)
    share = shares[parallel.engine_rank]
    with BackgroundScoring(score) as scoring:

        def done(place: int, completions: tuple[Completion, ...]) -> None:
            if place % parallel.tp == parallel.tp_rank:  # the ranks of an engine share its groups
                scoring.add(share[place], begun[share[place]].prompt, completions)

        if sampling.finish_share < 1 or any(isinstance(p, Group) for p in prompts):
            mine_begun = [begun[i] for i in share]
            completions = extend_groups(engine, mine_begun, sampling, policy_version=policy_version, done=done)
        else:
            completions = engine.generate(
                [begun[i].prompt for i in share], sampling, policy_version=policy_version, done=done,
                progress=None if progress is None else _scaled(progress, len(share), len(prompts)),
            )  # fmt: skip
        mine = agree(scoring.scores, parallel)
    sampled = gather_from_engines(dict(zip(share, completions, strict=True)), parallel)
    scores = {place: s for theirs in gather_from_ranks(mine, parallel) for place, s in theirs.items()}
    owners = {place: number for number, theirs in enumerate(sampled) for place in theirs}
    groups = [
        Group(prompt=group.prompt, completions=sampled[owners[i]][i], scores=scores.get(i, ()), engine=owners[i])
        for i, group in enumerate(begun)
    ]
    for group in groups:
        if group.scores:
            engine.lengths.learn(group.prompt, group.completions)
    return groups


def _tokens_left(engine: RolloutEngine, group: Group) -> float:
    """How many tokens a completion of the group is likely to need; one that is open needs one at least."""
    so_far = sum(len(completion.token_ids) for completion in group.completions) / len(group.completions)
    return max(1.0, engine.lengths.of(group.prompt) - so_far)


def _digest(groups: Sequence[Group], sampling: Sampling, shares: list[list[int]]) -> str:
    """Of all that decides what the engines are asked and in which order; of pixels the sum of their bits."""
    prompts = [group.prompt for group in groups]
    pixels = [int(prompt.pixel_values.view(torch.int32).sum(dtype=torch.int64)) for prompt in prompts]
    told = [(p.question.id, p.engine_token_ids, p.image_grid_thw.tolist()) for p in prompts]
    so_far = [[completion.token_ids for completion in group.completions] for group in groups]
    return hashlib.sha256(repr((sampling, shares, told, pixels, so_far)).encode()).hexdigest()


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

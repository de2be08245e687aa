"""Sampling over all engines of the world: each takes its share of the prompts, everyone gets every group."""

import hashlib
from collections.abc import Iterator, Sequence

import torch

from srpo_fast.batch import Completion, Group, Prompt, Score
from srpo_fast.parallel import Parallel, agree, gather_from_engines, gather_from_ranks, require_equal
from srpo_fast.rollout.background import BackgroundScoring, Scorer
from srpo_fast.rollout.engine import Progress, RolloutEngine, Sampling
from srpo_fast.rollout.group_growth import begin, grow_groups
from srpo_fast.rollout.sharing import OnDemand, longest_first, share_out


def sample_groups(
    engine: RolloutEngine, prompts: Sequence[Prompt | Group], sampling: Sampling, score: Scorer, *,
    policy_version: int, parallel: Parallel, progress: Progress | None = None,
) -> list[Group]:  # fmt: skip
    """One scored group a prompt, in the prompts' order, the same on every rank.

    With sampling.finish_share below 1 some groups come back open, without scores; given in a prompt's place, they go on
    (group_growth.py).

    Which engine samples a prompt does not change the samples: their seeds depend on run, step, prompt and sample only.
    A group is scored as soon as it is done, while its engine samples others. Every group is scored on one rank, so that
    all ranks hold the same scores: a check may be done in time on one and late on another. Raises a UserError of one
    rank on all.
    """
    begun = [p if isinstance(p, Group) else begin(p, sampling.samples) for p in prompts]
    costs = [_tokens_left(engine, group) for group in begun]
    share = _share(begun, costs, sampling, parallel)
    require_equal("what the engines are asked", _digest(begun, sampling, costs), parallel)
    report = _scaled(progress, parallel.engines, len(prompts) * sampling.samples) if progress else None
    with BackgroundScoring(score) as scoring:
        ahead = _ahead(engine, begun, parallel) if isinstance(share, OnDemand) else None
        completions = _sample_share(engine, begun, share, sampling, policy_version, ahead)
        mine: dict[int, tuple[Completion, ...]] = {}
        for place, of_group in completions:
            mine[place] = of_group
            is_whole = not any(completion.is_open(sampling.max_tokens) for completion in of_group)
            if is_whole and len(mine) % parallel.tp == parallel.tp_rank:  # the ranks of an engine share its groups
                scoring.add(place, begun[place].prompt, of_group)
            if report is not None:
                report(len(of_group))
        if report is not None:
            report(len(begun) * sampling.samples)
        scored = agree(scoring.scores, parallel)
    return _gathered(engine, begun, mine, scored, parallel)


def _share(
    groups: Sequence[Group], costs: Sequence[float], sampling: Sampling, parallel: Parallel
) -> OnDemand | list[int]:
    """The places of this engine's groups; what an earlier step began comes first, so as not to be left open again."""

    def is_new(place: int) -> bool:
        return not any(completion.token_ids for completion in groups[place].completions)

    if sampling.sharing == "on_demand":
        return OnDemand(sorted(longest_first(costs), key=is_new), parallel)
    return sorted(share_out(costs, parallel.engines)[parallel.engine_rank], key=is_new)


def _ahead(engine: RolloutEngine, groups: Sequence[Group], parallel: Parallel) -> int:
    """How many completions an engine may have under way of what all may take: what it samples at a time and a few that
    wait for room, but no more than its part of them, or the first to ask would leave nothing to the others."""
    completions = sum(len(group.completions) for group in groups)
    return min(engine.max_num_seqs * 9 // 8, -(-completions // parallel.engines))


def _sample_share(
    engine: RolloutEngine, groups: Sequence[Group], share: OnDemand | list[int], sampling: Sampling,
    policy_version: int, ahead: int | None,
) -> Iterator[tuple[int, tuple[Completion, ...]]]:  # fmt: skip
    """The share's groups by their places, as they are done."""
    places: list[int] = []

    def take() -> Iterator[Group]:
        for place in share:
            places.append(place)
            yield groups[place]

    for number, completions in grow_groups(engine, take(), sampling, policy_version=policy_version, ahead=ahead):
        yield places[number], completions


def _gathered(
    engine: RolloutEngine, groups: Sequence[Group], mine: dict[int, tuple[Completion, ...]],
    scored: dict[int, tuple[Score, ...]], parallel: Parallel,
) -> list[Group]:  # fmt: skip
    """The groups of all engines; what there is to learn of their lengths is learned."""
    sampled = gather_from_engines(mine, parallel)
    scores = {place: s for theirs in gather_from_ranks(scored, parallel) for place, s in theirs.items()}
    owners = {place: number for number, theirs in enumerate(sampled) for place in theirs}
    done = [
        Group(prompt=group.prompt, completions=sampled[owners[i]][i], scores=scores.get(i, ()), engine=owners[i])
        for i, group in enumerate(groups)
    ]
    for group in done:
        if group.scores:
            engine.lengths.learn(group.prompt, group.completions)
    return done


def _tokens_left(engine: RolloutEngine, group: Group) -> float:
    """How many tokens a completion of the group is likely to need; one that is open needs one at least."""
    so_far = sum(len(completion.token_ids) for completion in group.completions) / len(group.completions)
    return max(1.0, engine.lengths.of(group.prompt) - so_far)


def _digest(groups: Sequence[Group], sampling: Sampling, costs: list[float]) -> str:
    """Of all that decides what the engines are asked and in which order; of pixels the sum of their bits."""
    prompts = [group.prompt for group in groups]
    pixels = [int(prompt.pixel_values.view(torch.int32).sum(dtype=torch.int64)) for prompt in prompts]
    told = [(p.question.id, p.engine_token_ids, p.image_grid_thw.tolist()) for p in prompts]
    so_far = [[completion.token_ids for completion in group.completions] for group in groups]
    return hashlib.sha256(repr((sampling, costs, told, pixels, so_far)).encode()).hexdigest()


def _scaled(progress: Progress, engines: int, total: int) -> Progress:
    """Tells of all the engines' completions while this one's are done: the others are about as far."""
    told = 0

    def report(more: int) -> None:
        nonlocal told
        more = min(more * engines, total - told)
        told += more
        progress(more)

    return report

"""The groups of one call as they grow, and partial rollouts: what one step leaves open the next one goes on with.

An engine may stop before its longest completions are done (Sampling.finish_share). What goes on is one draw a
completion: the prompt and the tokens so far, then new tokens of the new weights. Nothing is sampled twice and nothing
is lost: a group waits until all its completions are done, then it trains once. Each token keeps the log-prob and the
version of the weights that sampled it.
"""

from collections.abc import Iterable, Iterator
from math import ceil

from srpo_fast.batch import NOTHING, Completion, Group, Prompt
from srpo_fast.rollout.engine import Draw, Drawn, Request, RolloutEngine, Sampling


def begin(prompt: Prompt, samples: int) -> Group:
    """A group of which nothing is sampled yet."""
    return Group(prompt=prompt, completions=(NOTHING,) * samples, scores=())


def grow_groups(
    engine: RolloutEngine, groups: Iterable[Group], sampling: Sampling, *, policy_version: int, ahead: int | None = None
) -> Iterator[tuple[int, tuple[Completion, ...]]]:
    """Every group's place and completions, the open ones sampled further: a group's as soon as its last is done, in the
    end those of groups that are left open, if finish_share is below 1, or had nothing open.

    What a completion's tokens are does not depend on finish_share. ahead: as in RolloutEngine.generate, which reads
    the groups.
    """
    growing, told = _Groups(sampling), set[int]()
    requests = map(growing.begin, groups)
    for drawn in engine.generate(
        requests, policy_version=policy_version, ahead=ahead, is_enough=growing.is_enough
    ):  # fmt: skip
        place = growing.grow(drawn)
        if growing.is_whole(place):
            told.add(place)
            yield place, tuple(growing.completions[place])
    for place, completions in enumerate(growing.completions):
        if place not in told:
            yield place, tuple(completions)


class _Groups:
    """completions: of every group that was begun. A draw's samples are the group's that it names."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self.completions: list[list[Completion]] = []
        self._samples: list[list[tuple[int, ...]]] = []  # of a group's draws
        self._num_open = self._total = self._whole = 0

    def begin(self, group: Group) -> Request:
        self.completions.append(list(group.completions))
        open_samples = [s for s, c in enumerate(group.completions) if c.is_open(self._sampling.max_tokens)]
        self._total += len(group.completions)
        self._num_open += len(open_samples)
        if self._sampling.finish_share == 1 and not any(c.token_ids for c in group.completions):
            self._samples.append([tuple(open_samples)])
            return self._sampling.request(group.prompt)
        open_samples.sort(key=lambda s: not group.completions[s].token_ids)  # begun ones first
        self._samples.append([(s,) for s in open_samples])
        draws = tuple(self._draw(group, s) for s in open_samples)
        return Request(prompt=group.prompt, temperature=self._sampling.temperature, draws=draws)

    def grow(self, drawn: Drawn) -> int:
        """The group that has grown."""
        for sample, completion in zip(self._samples[drawn.request][drawn.draw], drawn.completions, strict=True):
            self.completions[drawn.request][sample] = completion
            self._num_open -= not completion.is_open(self._sampling.max_tokens)
        self._whole += self.is_whole(drawn.request)
        return drawn.request

    def is_whole(self, place: int) -> bool:
        return not any(c.is_open(self._sampling.max_tokens) for c in self.completions[place])

    def is_enough(self) -> bool:
        may_be_open = self._total - ceil(self._sampling.finish_share * self._total)
        return self._num_open <= may_be_open and self._whole > 0

    def _draw(self, group: Group, sample: int) -> Draw:
        begun, name = group.completions[sample], group.prompt.question.id
        length = len(begun.token_ids)
        # a draw of several samples numbers its seeds in the same way
        seed = self._sampling.seed(name, sample, length) if length else self._sampling.seed(name) + sample
        return Draw(samples=1, max_tokens=self._sampling.max_tokens - length, seed=seed, begun=begun)

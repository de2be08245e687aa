"""Which data-parallel rank trains which sequence, so that the busiest one has as little to compute as can be.

A rank encodes the images of a prompt once, however many of its completions it holds. Whole prompts are dealt out where
that balances as well; the fewer prompts a rank has, the more they are split. Every rank decides the same by itself.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A sequence as the balance sees it; costs in any one unit."""

    cost: float  # of the sequence itself
    prompt: Hashable
    prompt_cost: float  # once on every rank that has a sequence of this prompt


@dataclass(slots=True)
class _Load:
    """What one rank has been dealt."""

    cost: float = 0.0
    members: list[int] = field(default_factory=list)
    prompts: set[Hashable] = field(default_factory=set)

    def cost_with(self, part: list[int], works: Sequence[Work]) -> float:
        first = works[part[0]]
        again = first.prompt in self.prompts
        return self.cost + sum(works[i].cost for i in part) + (0.0 if again else first.prompt_cost)

    def take(self, part: list[int], works: Sequence[Work]) -> None:
        self.cost = self.cost_with(part, works)
        self.members += part
        self.prompts.add(works[part[0]].prompt)


def share_out(works: Sequence[Work], ranks: int) -> list[list[int]]:
    """The numbers of every rank's sequences; a rank's list is empty where there are too few.

    Prompts are dealt out whole, in halves, in quarters and so on down to single sequences; the way whose busiest rank
    has the least to do is taken, of equal ways the one that splits least.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, work in enumerate(works):
        groups.setdefault(work.prompt, []).append(number)
    size = max(map(len, groups.values()))
    ways = [_deal(_parts(groups, works, size), works, ranks)]
    while size > 1:
        size = (size + 1) // 2
        ways.append(_deal(_parts(groups, works, size), works, ranks))
    best = min(ways, key=lambda loads: max(load.cost for load in loads))
    return [load.members for load in best]


def _parts(groups: dict[Hashable, list[int]], works: Sequence[Work], size: int) -> list[list[int]]:
    """Each prompt's sequences in parts of at most `size` that cost about the same."""
    parts = []
    for members in groups.values():
        ordered = sorted(members, key=lambda i: -works[i].cost)
        count = -(-len(members) // size)
        parts += [ordered[start::count] for start in range(count)]
    return parts


def _deal(parts: list[list[int]], works: Sequence[Work], ranks: int) -> list[_Load]:
    """The most expensive part first, each to the rank that has least to do with it."""
    loads = [_Load() for _ in range(ranks)]
    for part in sorted(parts, key=lambda part: -sum(works[i].cost for i in part)):
        min(loads, key=lambda load: load.cost_with(part, works)).take(part, works)
    return loads

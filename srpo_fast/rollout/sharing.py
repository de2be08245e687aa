"""Which engine samples which prompts, so that all of them are done at about the same time."""

from collections.abc import Iterator, Sequence

import torch.distributed as dist

from srpo_fast.parallel import Parallel
from srpo_fast.rollout import vllm_touch_points


def share_out(costs: Sequence[float], engines: int) -> list[list[int]]:
    """The places of every engine's prompts, the longest first: each goes to the engine with the least work so far.

    A function of its arguments alone, so every rank shares out alike. Equal costs are dealt round.
    """
    loads = [0.0] * engines
    shares: list[list[int]] = [[] for _ in range(engines)]
    for place in longest_first(costs):
        lightest = loads.index(min(loads))
        loads[lightest] += costs[place]
        shares[lightest].append(place)
    return shares


def longest_first(costs: Sequence[float]) -> list[int]:
    return sorted(range(len(costs)), key=lambda place: -costs[place])


class OnDemand:
    """Places that the engines take, the next one whoever has room for it: none is idle while another has a queue.

    To be made on every rank before a collective that all of them pass, and gone through once, after it. Which engine
    gets what is a matter of time, so two runs need not have the same numerics.
    """

    def __init__(self, places: Sequence[int], parallel: Parallel) -> None:
        self._places, self._parallel = places, parallel
        self._store = dist.PrefixStore("rollout", dist.distributed_c10d._get_default_store())
        if parallel.is_main:
            self._store.set("taken", "0")

    def __iter__(self) -> Iterator[int]:
        """The same, at the same time, on the ranks of an engine."""
        while (number := self._take()) < len(self._places):
            yield self._places[number]

    def _take(self) -> int:
        number = self._store.add("taken", 1) - 1 if self._parallel.tp_rank == 0 else 0
        return vllm_touch_points.of_first_rank(number) if self._parallel.tp > 1 else number

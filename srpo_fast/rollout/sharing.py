"""Which engine samples which prompts, so that all of them are done at about the same time."""

from collections.abc import Sequence


def share_out(costs: Sequence[float], engines: int) -> list[list[int]]:
    """The places of every engine's prompts, the longest first: each goes to the engine with the least work so far.

    A function of its arguments alone, so every rank shares out alike. Equal costs are dealt round.
    """
    loads = [0.0] * engines
    shares: list[list[int]] = [[] for _ in range(engines)]
    for place in sorted(range(len(costs)), key=lambda place: -costs[place]):
        lightest = loads.index(min(loads))
        loads[lightest] += costs[place]
        shares[lightest].append(place)
    return shares

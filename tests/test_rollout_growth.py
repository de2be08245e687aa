"""How the groups of one call grow, told by an engine that is told when to finish what."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest

from srpo_fast.batch import NOTHING, Completion, Group
from srpo_fast.rollout.engine import Drawn, Request, Sampling
from srpo_fast.rollout.group_growth import begin, grow_groups
from tests.prompt_case import bare_prompt

LIMIT = 6
SAMPLING = Sampling(samples=2, temperature=1.0, max_tokens=LIMIT, stream=("growth",))


class Scripted:
    """An engine whose draws end in the order of `ends`, (request, draw, new tokens); what is left is cut after one."""

    def __init__(self, *ends: tuple[int, int, int]) -> None:
        self.ends = ends
        self.requests: list[Request] = []

    def generate(
        self, requests: Iterable[Request], *, policy_version: int, ahead: int | None = None,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[Drawn]:  # fmt: skip
        self.requests = list(requests)
        left = {(r, d): draw for r, request in enumerate(self.requests) for d, draw in enumerate(request.draws)}
        for request, draw, new in self.ends:
            asked = left.pop((request, draw))
            yield Drawn(request=request, draw=draw, completions=(_grown(asked.begun, new, True),) * asked.samples)
            if is_enough():
                break
        for (request, draw), asked in left.items():
            yield Drawn(request=request, draw=draw, completions=(_grown(asked.begun, 1, False),))


def _grown(begun: Completion, new: int, is_finished: bool) -> Completion:
    return begun.extended(
        range(new), (-1.0,) * new, decode=lambda ids: str(len(ids)), is_finished=is_finished, policy_version=3
    )


def lengths(completions: tuple[Completion, ...]) -> list[int]:
    return [len(completion.token_ids) for completion in completions]


@pytest.fixture
def groups() -> list[Group]:
    return [begin(bare_prompt(name), 2) for name in "abc"]


def test_groups_that_are_to_be_ended_are_asked_for_at_once_and_told_of_when_done(groups):
    engine = Scripted((2, 0, 3), (0, 0, 2), (1, 0, 5))
    found = list(grow_groups(engine, groups, SAMPLING, policy_version=3))
    assert [(place, lengths(completions)) for place, completions in found] == [(2, [3, 3]), (0, [2, 2]), (1, [5, 5])]
    assert [[draw.samples for draw in request.draws] for request in engine.requests] == [[2]] * 3


def test_a_call_ends_at_its_share_and_a_whole_group_and_leaves_the_others_open(groups):
    # half of six are three; the third to end leaves no group whole, so the fourth is waited for
    engine = Scripted((0, 0, 2), (1, 0, 2), (2, 0, 2), (1, 1, 4), (0, 1, 2))
    found = list(grow_groups(engine, groups, replace(SAMPLING, finish_share=0.5), policy_version=3))
    assert [(place, lengths(completions)) for place, completions in found] == [(1, [2, 4]), (0, [2, 1]), (2, [2, 1])]


def test_a_group_goes_on_with_its_open_completions_begun_ones_first():
    done, begun = _grown(NOTHING, 4, True), replace(_grown(NOTHING, 2, False), policy_version=1)
    group = Group(prompt=bare_prompt("a"), completions=(NOTHING, done, begun), scores=())
    engine = Scripted((0, 0, 3), (0, 1, 1))
    ((_, completions),) = grow_groups(engine, [group], replace(SAMPLING, samples=3), policy_version=3)
    first, second = engine.requests[0].draws
    assert (first.begun, first.max_tokens, second.begun, second.max_tokens) == (begun, LIMIT - 2, NOTHING, LIMIT)
    assert lengths(completions) == [1, 4, 5]
    assert completions[1] is done
    assert completions[2].token_versions == (1, 1, 3, 3, 3)
    # what is begun draws from a stream of its own, the others as if the group were asked for at once
    assert second.seed == SAMPLING.seed("a")
    assert first.seed == SAMPLING.seed("a", 2, 2)


def test_a_completion_that_gets_no_tokens_stays_as_it_was():
    assert NOTHING.extended((), (), decode=lambda ids: "", is_finished=False, policy_version=3) is NOTHING


def test_a_group_without_anything_open_comes_back_as_it_is(groups):
    whole = replace(groups[0], completions=(_grown(NOTHING, LIMIT, False),) * 2)
    found = dict(grow_groups(Scripted((1, 0, 1)), [whole, groups[1]], SAMPLING, policy_version=3))
    assert found[0] == whole.completions
    assert lengths(found[1]) == [1, 1]

"""Engines are to finish together: the longest first, each to whoever has the least to do."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from srpo_fast.batch import Completion, Question
from srpo_fast.expected_lengths import ExpectedLengths
from srpo_fast.parallel import Parallel
from srpo_fast.rollout import vllm_touch_points
from srpo_fast.rollout.group_growth import begin
from srpo_fast.rollout.groups import _ahead
from srpo_fast.rollout.sharing import OnDemand, share_out
from tests.prompt_case import bare_prompt


def make_completions(*lengths: int) -> list[Completion]:
    return [
        Completion(token_ids=(1,) * n, rollout_logprobs=(0.0,) * n, text="", is_finished=True, policy_version=0)
        for n in lengths
    ]


def test_the_longest_goes_first_and_each_to_the_least_loaded():
    assert share_out([1, 9, 5, 4], 2) == [[1, 0], [2, 3]]
    assert share_out([3, 3, 2, 2, 2], 2) == [[0, 2, 4], [1, 3]]


def test_every_prompt_is_given_once_also_when_engines_are_left_without_one():
    assert share_out([5, 1, 3, 3, 8, 2, 2], 1) == [[4, 0, 2, 3, 5, 6, 1]]
    assert share_out([1, 2], 3) == [[1], [0], []]
    assert share_out([], 2) == [[], []]


def test_engines_take_what_the_others_left_and_all_ranks_of_one_the_same(monkeypatch):
    told: list[int] = []  # what the first rank of an engine told the other
    tell = {True: lambda number: told.append(number) or number, False: lambda _: told.pop(0)}
    store = dist.HashStore()
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    for places in ([4, 2, 0, 1, 3], [7]):  # two calls, of which the second begins anew
        ranks = [_rank(number) for number in range(4)]
        taken = [iter(OnDemand(places, rank)) for rank in ranks]
        found: dict[int, list[int]] = {0: [], 1: []}
        for engine in (0, 0, 1, 0, 1, 1, 0):
            for rank in ranks[2 * engine : 2 * engine + 2]:
                monkeypatch.setattr(vllm_touch_points, "of_first_rank", tell[rank.tp_rank == 0])
                found[rank.rank % 2].append(next(taken[rank.rank], -1))
        assert found[0] == found[1] == places + [-1] * (7 - len(places))


@pytest.mark.parametrize(("prompts", "ahead"), [(8, 32), (9, 36), (64, 72)])
def test_who_asks_first_takes_its_part_at_most_and_little_more_than_it_has_room_for(prompts, ahead):
    groups = [begin(bare_prompt(str(n)), 8) for n in range(prompts)]
    assert _ahead(SimpleNamespace(max_num_seqs=64), groups, _rank(0)) == ahead


def _rank(number: int) -> Parallel:
    return Parallel(rank=number, world=4, tp=2, pp=1, device=torch.device("cpu"))


def test_without_knowledge_prompts_are_dealt_round():
    lengths = ExpectedLengths()
    costs = [lengths.of(bare_prompt(str(n))) for n in range(6)]
    assert share_out(costs, 2) == [[0, 2, 4], [1, 3, 5]]


def test_shares_are_balanced_where_strides_are_not():
    costs = [100.0 if place % 4 == 0 else 10.0 for place in range(64)]  # strides of 4 give one engine all the long ones
    loads = [sum(costs[place] for place in share) for share in share_out(costs, 4)]
    assert max(loads) / (sum(loads) / 4) < 1.01
    assert sum(costs[::4]) / (sum(costs) / 4) > 3


def test_a_prompt_is_expected_to_be_as_long_as_last_time_and_an_unknown_one_as_the_mean():
    lengths = ExpectedLengths()
    lengths.learn(bare_prompt("0"), make_completions(10, 20))
    lengths.learn(bare_prompt("1"), make_completions(60, 70))
    assert lengths.of(bare_prompt("0")) == 15
    assert lengths.of(bare_prompt("2")) == 40
    lengths.learn(bare_prompt("0"), make_completions(30))
    assert lengths.of(bare_prompt("0")) == 30
    other = replace(bare_prompt("0"), question=Question(id="0", text="asked again", images=(), answer=""))
    assert lengths.of(other) == 30


def test_what_was_learned_comes_back():
    lengths, restored = ExpectedLengths(), ExpectedLengths()
    lengths.learn(bare_prompt("0"), make_completions(10, 20))
    restored.load_state_dict(lengths.state_dict())
    lengths.learn(bare_prompt("0"), make_completions(90))  # what is saved is not what goes on
    assert [restored.of(bare_prompt(str(n))) for n in (0, 1)] == [15, 15]
    restored.learn(bare_prompt("1"), make_completions(45))
    assert restored.of(bare_prompt("2")) == 25

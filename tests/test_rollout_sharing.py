"""Engines are to finish together: the longest first, each to whoever has the least to do."""

from dataclasses import replace

from srpo_fast.batch import Completion, Question
from srpo_fast.expected_lengths import ExpectedLengths
from srpo_fast.rollout.sharing import share_out
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

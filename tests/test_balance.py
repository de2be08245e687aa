"""Sequences dealt out to ranks, by hand."""

from srpo_fast.balance import Work, share_out


def works(*costs: float, prompts: str, prompt_cost: float = 0.0) -> list[Work]:
    return [Work(cost=c, prompt=p, prompt_cost=prompt_cost) for c, p in zip(costs, prompts, strict=True)]


def test_the_most_expensive_goes_first_and_each_to_the_rank_with_least_to_do():
    assert share_out(works(5, 4, 3, 3, 2, prompts="abcde"), 2) == [[0, 3], [1, 2, 4]]


def test_a_prompt_stays_whole_where_that_costs_nothing():
    assert share_out(works(2, 2, 2, 2, prompts="abab"), 2) == [[0, 2], [1, 3]]


def test_a_prompt_is_split_when_that_pays_for_encoding_it_twice():
    assert share_out(works(3, 3, 1, prompts="aab"), 2) == [[0, 2], [1]]
    assert share_out(works(3, 3, 1, prompts="aab", prompt_cost=10), 2) == [[0, 1], [2]]


def test_no_further_split_than_needed():
    # halves balance as well as single sequences would, and are tried first
    assert share_out(works(4, 1, 4, 1, prompts="aaaa", prompt_cost=1), 2) == [[0, 1], [2, 3]]


def test_a_rank_may_get_nothing():
    assert share_out(works(1, prompts="a"), 3) == [[0], [], []]

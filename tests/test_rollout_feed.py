"""How many requests an engine reads ahead."""

from srpo_fast.rollout.engine import Sampling
from srpo_fast.rollout.vllm_engine import AT_ONCE, _Feed
from tests.prompt_case import bare_prompt


def feed(requests: int, ahead: int | None, samples: int = 1) -> _Feed:
    sampling = Sampling(samples=samples, temperature=1.0, max_tokens=4, stream=("feed",))
    return _Feed([sampling.request(bare_prompt(str(n))) for n in range(requests)], ahead)


def places(taken: list) -> list[int]:
    return [place for place, _ in taken]


def test_without_a_limit_all_are_read_at_once():
    all_of_them = feed(40, None)
    assert places(all_of_them.take(0)) == list(range(40))
    assert all_of_them.is_read
    assert all_of_them.take(160) == []


def test_a_limit_counts_completions_and_is_refilled_when_an_eighth_is_free():
    some = feed(9, ahead=32, samples=8)
    assert places(some.take(0)) == [0, 1, 2, 3]
    assert some.take(32) == some.take(29) == []
    assert places(some.take(28)) == [4]  # rather one too many than an engine that waits
    assert places(some.take(8)) == [5, 6, 7]
    assert not some.is_read
    assert places(some.take(0)) == [8]
    assert some.is_read


def test_few_are_handed_in_together():
    some = feed(AT_ONCE + 2, ahead=1000)
    assert len(some.take(0)) == AT_ONCE
    assert len(some.take(AT_ONCE)) == 2

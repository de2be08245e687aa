"""The search over keys: as thorough as trying everything, and far cheaper where little fits."""

import itertools

import pytest

from srpo_fast.estimate import host_memory, knobs
from srpo_fast.estimate.job import make_job
from srpo_fast.estimate.knobs import DECIDE_WHAT_STAYS, change_that_fits, is_safe, spare_gib, with_values
from srpo_fast.estimate.memory import what_stays
from srpo_fast.estimate.step_time import step_time
from srpo_fast.estimate.verdict import judge


def every_change(job, most: int):
    """The answer by trying all there is: (seconds, values) of the fastest of the fewest."""
    exact, rounding = knobs._alternatives(job), knobs._rounding(job)
    for alternatives, count in itertools.product((exact, exact | rounding), range(1, most + 1)):
        found = []
        for keys in itertools.combinations(alternatives, count):
            for values in itertools.product(*(alternatives[key] for key in keys)):
                changed = with_values(job, dict(zip(keys, values, strict=True)))
                if changed and is_safe(changed, spare_gib(changed)):
                    found.append((step_time(changed).seconds, tuple(zip(keys, values, strict=True))))
        if found:
            return min(found, key=lambda change: change[0])
    return None


HOST = ("optimizer.offload=true", "optimizer.master_weights=remainder", "rollout.kv_cache_gib=1", "parallel.tp=4")


@pytest.mark.parametrize(
    ("memory_gib", "host_gib", "overrides", "named"),
    [
        (10.0, None, [], None),
        (64.0, None, ["parallel.tp=4", "rollout.kv_cache_gib=1"], "rollout.kv_cache_gib=2"),
        (28.0, None, ["parallel.tp=4", "rollout.kv_cache_gib=1"], "optimizer.offload=true"),
        (45.0, 200.0, HOST, "optimizer.offload=false"),
        (34.0, 200.0, HOST, "optimizer.moments=bfloat16"),  # what rounds, in the second search
    ],
)
def test_the_search_finds_what_trying_everything_finds(memory_gib, host_gib, overrides, named, real_job, monkeypatch):
    monkeypatch.setattr(knobs, "MOST_CHANGES", 2)
    job = real_job("7b", *overrides, gpus=4, memory_gib=memory_gib, host_gib=host_gib)
    found, expected = change_that_fits(job), every_change(job, most=2)
    assert (named is None) if found is None else (named in found.arguments)
    assert (found and (found.seconds, found.values)) == expected


def test_where_nothing_fits_few_of_the_layouts_are_looked_at(real_job, monkeypatch):
    looked_at = []
    monkeypatch.setattr(knobs, "make_job", lambda *arguments: looked_at.append(1) or make_job(*arguments))
    verdict = judge(real_job("7b", memory_gib=10.0))
    assert "No values of the keys that leave learning as it is make it fit on up to 1024" in verdict.words
    assert 0 < len(looked_at) < 15_000  # of 90,000 combinations


def test_only_the_keys_that_are_said_to_decide_what_stays(real_job):
    job = real_job("7b", "parallel.pp=2", "parallel.tp=2", gpus=16, host_gib=900.0)
    before = what_stays(job), host_memory.spare_gib(job)
    after: dict[str, set[tuple[float, float]]] = {}
    for key, values in (knobs._alternatives(job) | knobs._rounding(job)).items():
        changed = [job_of for value in values if (job_of := with_values(job, {key: value}))]
        after[key] = {(what_stays(other), host_memory.spare_gib(other)) for other in changed}
    assert {key for key, figures in after.items() if figures - {before}} == DECIDE_WHAT_STAYS

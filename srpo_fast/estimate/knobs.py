"""The keys of a config that change how it runs and not what it learns, and a search over them.

One rounds: optimizer.moments is looked at only where nothing exact makes a run fit.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from srpo_fast.config import Config, UserError
from srpo_fast.estimate import host_memory, kv_cache
from srpo_fast.estimate.job import Job, make_job
from srpo_fast.estimate.layout import layout_problems
from srpo_fast.estimate.memory import GIB, what_stays, worst_phases
from srpo_fast.estimate.step_time import step_time

MOST_CHANGES = 4
LEAST_GAIN = 0.02  # of a step's seconds that makes a change worth naming
SAFE_SHARE = 0.05  # of a GPU's memory that a change leaves free: about what the prediction may be off
# of the keys below: what stays on a rank from step to step, and what a host holds, is the same for all values of others
DECIDE_WHAT_STAYS = frozenset({
    "parallel.distributed_optimizer", "parallel.tp", "parallel.pp", "rollout.kv_cache_gib",
    "optimizer.master_weights", "optimizer.moments", "optimizer.offload",
})  # fmt: skip

Values = tuple[tuple[str, Any], ...]  # (section.key, value), each key once


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Values to add to the config, and the run that this makes."""

    values: Values
    job: Job
    spare_gib: float
    seconds: float | None  # a step; None on a CPU

    @property
    def arguments(self) -> str:
        return " ".join(f"{key}={str(value).lower()}" for key, value in self.values)


def spare_gib(job: Job) -> float:
    """GiB left in the tightest phase; negative where it does not fit."""
    return job.memory_gib - max(phase.total for phase in worst_phases(job)) / GIB


def is_safe(job: Job, spare: float) -> bool:
    """Whether that many GiB of a GPU, and what is left of the host's, are more than the prediction may be off."""
    on_host = job.host_gib is None or host_memory.spare_gib(job) >= SAFE_SHARE * job.host_gib
    return on_host and spare >= SAFE_SHARE * job.memory_gib


def change_that_fits(job: Job) -> Change | None:
    """The fastest of the changes with the fewest values that fit; None when no MOST_CHANGES values do."""
    if not host_memory.can_suffice(job):
        return None
    exact, rounding = _alternatives(job), _rounding(job)
    found = _fewest(job, exact)
    return found or (_fewest(job, exact | rounding, among=frozenset(rounding)) if rounding else None)


def change_that_speeds_up(job: Job) -> Change | None:
    """The one value that saves most seconds and fits; None when none saves more than LEAST_GAIN."""
    best = _best(changes(job, 1, _alternatives(job), {}))
    if best is None or best.seconds is None or best.seconds > step_time(job).seconds * (1 - LEAST_GAIN):
        return None
    return best


def _fewest(job: Job, alternatives: Mapping[str, list[Any]], among: frozenset[str] = frozenset()) -> Change | None:
    ruled_out: dict[Values, bool] = {}
    for count in range(1, MOST_CHANGES + 1):
        if best := _best(changes(job, count, alternatives, ruled_out, among)):
            return best
    return None


def changes(
    job: Job, count: int, alternatives: Mapping[str, list[Any]], ruled_out: dict[Values, bool],
    among: frozenset[str] = frozenset(),
) -> Iterator[Change]:  # fmt: skip
    """Every change of exactly `count` of these keys, those `among` them, that fits and that policy and engine take.

    Most of what does not fit does not by what stays alone, which few keys decide: that is asked once for their values,
    and remembered in `ruled_out`.
    """
    for keys in itertools.combinations(alternatives, count):
        if not among <= set(keys):
            continue
        for values in itertools.product(*(alternatives[key] for key in keys)):
            change = tuple(zip(keys, values, strict=True))
            deciding = tuple(item for item in change if item[0] in DECIDE_WHAT_STAYS)
            if deciding not in ruled_out:
                ruled_out[deciding] = _is_too_much(with_values(job, dict(deciding)))
            if not ruled_out[deciding] and (made := _made(job, change)):
                yield made


def _is_too_much(job: Job | None) -> bool:
    """Whether already what stays from step to step leaves no room; not where only a further value makes a job of it."""
    return job is not None and not is_safe(job, job.memory_gib - what_stays(job) / GIB)


def _made(job: Job, values: Values) -> Change | None:
    changed = with_values(job, dict(values))
    if changed is None or not is_safe(changed, spare := spare_gib(changed)):
        return None
    seconds = None if changed.gpu.is_cpu else step_time(changed).seconds
    return Change(values=values, job=changed, spare_gib=spare, seconds=seconds)


def with_values(job: Job, values: Mapping[str, Any], gpus: int | None = None) -> Job | None:
    """The job under other values and GPUs, or None where they are refused."""
    document = job.config.model_dump()
    for key, value in values.items():
        section, _, leaf = key.partition(".")
        document[section][leaf] = value
    try:
        config = Config.model_validate(document)
        changed = make_job(config, job.shape, job.gpu, gpus or job.layout.gpus, job.memory_gib, job.assumptions)
        kv_cache.check(changed)
    except (ValidationError, UserError):
        return None
    return replace(changed, host_gib=job.host_gib)


def _alternatives(job: Job) -> dict[str, list[Any]]:
    """Other values of every key, cheapest change first."""
    config, layout = job.config, job.layout
    machine = int(job.assumptions.gpus_per_machine)
    budget, longest = config.optimizer.tokens_per_micro_batch, config.data.max_prompt_tokens + config.rollout.max_tokens
    cache = config.rollout.kv_cache_gib
    powers = [2**i for i in range(9)]
    shared = [True] if job.host_gib is None else [True, False]  # one needs less of a GPU, the other less of the host
    found: dict[tuple[str, str], list[Any]] = {
        ("parallel", "distributed_optimizer"): shared if layout.dp * layout.cp > 1 else [],
        ("parallel", "sequence_parallel"): [True],
        ("optimizer", "master_weights"): ["remainder"],  # refused where weights are fp32
        ("optimizer", "offload"): [] if job.gpu.is_cpu else [True, False],
        ("optimizer", "tokens_per_micro_batch"): [max(longest, budget // n) for n in (2, 4, 8)] + [budget * 2],
        ("optimizer", "share_prompts"): [True],
        ("model", "recompute"): ["none", "selective", "full"],
        ("rollout", "kv_cache"): ["sleeps"],  # refused on a CPU
        ("rollout", "kv_cache_gib"): [cache / 2, cache / 4, cache * 2],
        ("rollout", "max_num_seqs"): [config.rollout.max_num_seqs // 2 or 1, config.rollout.max_num_seqs * 2],
        ("parallel", "tp"): [
            n for n in powers if n <= machine and not layout_problems(job.shape.text, gpus=n, tp=n, pp=1)
        ],
        ("parallel", "pp"): [n for n in powers if n <= min(machine, job.shape.text.layers)],
        ("parallel", "chunks_per_stage"): [1, 2, 4],  # refused where pp is 1
    }
    now = config.model_dump()
    return {
        f"{section}.{leaf}": list(dict.fromkeys(value for value in values if value != now[section][leaf]))
        for (section, leaf), values in found.items()
    }


def _rounding(job: Job) -> dict[str, list[Any]]:
    return {"optimizer.moments": ["bfloat16"]} if job.config.optimizer.moments == "float32" else {}


def _best(found: Iterable[Change]) -> Change | None:
    """The fastest; where no time is predicted, the roomiest."""
    return min(found, key=lambda change: -change.spare_gib if change.seconds is None else change.seconds, default=None)

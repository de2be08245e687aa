"""Does it fit, and what is the next knob: in words."""

from dataclasses import dataclass

from srpo_fast.estimate import host_memory
from srpo_fast.estimate.job import Job
from srpo_fast.estimate.knobs import Change, change_that_fits, change_that_speeds_up, is_safe, with_values
from srpo_fast.estimate.memory import GIB, PhaseMemory, worst_phases
from srpo_fast.estimate.step_time import step_time

MOST_GPUS = 1024  # up to which a number of GPUs is looked for that would do


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    fits: bool
    tightest: PhaseMemory
    spare_gib: float
    host_spare_gib: float | None  # of a machine; None: nobody said how much it has
    next_knob: Change | None  # makes it fit, or where it fits, faster
    gpus_that_fit: int | None  # where nothing fits on these: the least doubling that does, with next_knob
    words: str


def judge(job: Job) -> Verdict:
    tightest = max(worst_phases(job), key=lambda phase: phase.total)
    spare, on_host = job.memory_gib - tightest.total / GIB, host_memory.spare_gib(job)
    fits = spare >= 0 and on_host >= 0
    if fits:
        change, gpus = change_that_speeds_up(job), None
        how = "fits" if is_safe(job, spare) else "fits, barely,"
        words = f"{how} with {spare:.1f} GiB to spare{_where(job, tightest)}{_host(job)}. {_faster(job, change)}"
    else:
        change, gpus = change_that_fits(job), job.layout.gpus
        if change is None:
            change, gpus = _more_gpus(job)
        where = f"{_where(job, tightest)}{_host(job)}" if spare < 0 else f" the host{_host(job, ':')}"
        words = f"does not fit{where}. {_remedy(job, change, gpus)}"
        gpus = None if gpus == job.layout.gpus else gpus
    return Verdict(
        fits=fits, tightest=tightest, spare_gib=spare, host_spare_gib=None if job.host_gib is None else on_host,
        next_knob=change, gpus_that_fit=gpus, words=words,
    )  # fmt: skip


def _host(job: Job, before: str = ";") -> str:
    if job.host_gib is None:
        return ""
    parts = host_memory.on_machine(job)
    largest = max(parts, key=lambda name: parts[name])
    needed = sum(parts.values()) / GIB
    return f"{before} a machine needs {needed:.0f} GiB of its {job.host_gib:.0f} GiB of host memory, mostly {largest}"


def _where(job: Job, phase: PhaseMemory) -> str:
    rank = f" on a rank of stage {phase.stage}" if job.layout.pp > 1 else " on a rank"
    name = {"fwd+bwd": "forward and backward", "images": "the images' pass", "step": "the optimizer's step"}
    return (
        f": {name.get(phase.phase, phase.phase)} needs {phase.total / GIB:.1f} GiB of {job.memory_gib:g}{rank}, "
        f"mostly {phase.largest}"
    )


def _faster(job: Job, change: Change | None) -> str:
    if job.gpu.is_cpu:
        return "No time is predicted for a CPU."
    if change is None:
        return "No single value would make a step more than 2 % faster."
    return f"Next knob, for speed: {change.arguments} (a step in {change.seconds:.0f} s, not {_seconds(job):.0f} s)"


def _seconds(job: Job) -> float:
    return step_time(job).seconds


def _remedy(job: Job, change: Change | None, gpus: int | None) -> str:
    if change is None:
        return f"No values of the keys that leave learning as it is make it fit on up to {MOST_GPUS} such GPUs."
    seconds = "" if change.seconds is None else f", a step in {change.seconds:.0f} s"
    more = "" if gpus == job.layout.gpus else f"Nothing makes it fit on {job.layout.gpus} GPUs. With --gpus {gpus}: "
    knob = change.arguments or "these values"
    return f"{more}Next knob: {knob} ({change.spare_gib:.1f} GiB to spare{seconds})"


def _more_gpus(job: Job) -> tuple[Change | None, int | None]:
    gpus = job.layout.gpus
    while (gpus := gpus * 2) <= MOST_GPUS:
        larger = with_values(job, {}, gpus)
        if larger is not None and (change := change_that_fits(larger)):
            return change, gpus
    return None, None

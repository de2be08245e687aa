"""Everything that is predicted of one run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from srpo_fast.config import Config, UserError
from srpo_fast.estimate import kv_cache
from srpo_fast.estimate.assumptions import assume
from srpo_fast.estimate.gpus import find_gpu
from srpo_fast.estimate.host_memory import on_machine
from srpo_fast.estimate.job import Job, make_job
from srpo_fast.estimate.memory import PhaseMemory, worst_phases
from srpo_fast.estimate.step_time import StepTime, step_time
from srpo_fast.estimate.verdict import Verdict, judge
from srpo_fast.model_shape import find_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    job: Job
    phases: tuple[PhaseMemory, ...]  # each on the stage that needs most
    host: dict[str, float]  # bytes of one machine, by part
    kv_tokens: float  # that an engine's cache holds
    concurrency: float  # completions of full length that an engine runs at once
    time: StepTime | None  # under the assumptions; None on a CPU
    roofline: StepTime | None  # the same work at the data sheet's figures
    verdict: Verdict


def predict(
    config: Config, *, gpus: int, memory_gib: float | None = None, gpu: str | None = None,
    model_config: str | None = None, assumptions: Sequence[str] = (), host_gib: float | None = None,
) -> Prediction:  # fmt: skip
    """Raises UserError for an unknown GPU or model, and where policy or engine would refuse the config."""
    device, memory = find_gpu(gpu, memory_gib)
    shape = find_shape(config.model.path, model_config)
    assumed = assume(config, shape.vision, list(assumptions), is_cpu=device.is_cpu)
    if device.is_cpu and host_gib is not None:
        raise UserError(
            "with --gpu cpu a process' --gpu-memory-gib is host memory already: leave --host-memory-gib out"
        )
    job = replace(make_job(config, shape, device, gpus, memory, assumed), host_gib=host_gib)
    kv_cache.check(job)
    ideal = make_job(config, shape, device, gpus, memory, assumed.at_the_roofline())
    return Prediction(
        job=job,
        phases=tuple(worst_phases(job)),
        host=on_machine(job),
        kv_tokens=kv_cache.tokens(job),
        concurrency=kv_cache.concurrency(job),
        time=None if device.is_cpu else step_time(job),
        roofline=None if device.is_cpu else step_time(ideal),
        verdict=judge(job),
    )

"""The predicted time of a step, put together."""

from dataclasses import dataclass

from srpo_fast.estimate import parameters
from srpo_fast.estimate.job import Job
from srpo_fast.estimate.rates import Part, bandwidth, link
from srpo_fast.estimate.rollout_time import rollout
from srpo_fast.estimate.update_time import required_flops, update


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Of a mean step, without what the CPU does (images, rewards), evaluation and saving."""

    parts: tuple[Part, ...]
    update_flops: float  # that the update needs, over all GPUs
    tokens: float  # prompt and completion, of all completions
    gpus: int
    peak_flops: float  # a second, of one GPU

    @property
    def seconds(self) -> float:
        return sum(part.seconds for part in self.parts)

    def of(self, phase: str) -> float:
        return sum(part.seconds for part in self.parts if part.phase == phase)

    @property
    def update_mfu(self) -> float:
        return self.update_flops / (self.of("update") * self.gpus * self.peak_flops)

    @property
    def tokens_per_gpu_second(self) -> float:
        return self.tokens / self.seconds / self.gpus


def step_time(job: Job) -> StepTime:
    """The device must not be a CPU: its rates are not known."""
    assert job.gpu.tflops is not None, f"{job.gpu.name=}"
    a = job.assumptions
    return StepTime(
        parts=(*rollout(job), *update(job), sync(job)),
        update_flops=required_flops(job),
        tokens=job.completions * (a.prompt_tokens + a.completion_tokens),
        gpus=job.layout.gpus,
        peak_flops=job.gpu.tflops * 1e12,
    )


def sync(job: Job) -> Part:
    """Every rank copies its shard to its engine, unless the engine has the same; stages send theirs to the others."""
    layout, is_copied = job.layout, job.config.rollout.weights == "copy"
    engine = parameters.of_engine(job.shape.text, layout) * job.bytes_a_weight
    copying = 2 * engine / layout.pp / bandwidth(job) if is_copied else 0.0
    sending = engine / link(job, layout.gpus) if layout.pp > 1 else 0.0  # stages are the outermost ranks
    limit = "links" if layout.pp > 1 else "memory"
    return Part(name="weights", phase="sync", seconds=copying + sending, limit=limit)

"""How fast the device does things, under the assumptions, and the timed parts of a step."""

from dataclasses import dataclass

from srpo_fast.estimate.job import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    phase: str  # rollout, update or sync
    seconds: float
    limit: str  # what bounds it


def products(job: Job, operations: float) -> float:
    """Seconds of matrix products on one GPU."""
    assert job.gpu.tflops is not None, f"{job.gpu.name=}"
    return operations / (job.gpu.tflops * 1e12 * job.assumptions.matmul_share)


def attention(job: Job, operations: float) -> float:
    assert job.gpu.tflops is not None, f"{job.gpu.name=}"
    return operations / (job.gpu.tflops * 1e12 * job.assumptions.attention_share)


def bandwidth(job: Job) -> float:
    """Bytes a second, read and written."""
    return job.gpu.bandwidth_tbs * 1e12 * job.assumptions.bandwidth_share


def link(job: Job, span: int) -> float:
    """Bytes a second and direction among `span` neighbouring ranks: a machine's links, beyond it the network."""
    within = span <= job.assumptions.gpus_per_machine
    return (job.gpu.link_gbs if within else job.assumptions.network_gbs) * 1e9 * job.assumptions.link_share


def all_reduce(job: Job, size: float, ranks: int, span: int) -> float:
    """A ring over `ranks` that lie within `span`: each sends 2 (n - 1) / n of the bytes."""
    return 2 * (ranks - 1) / ranks * size / link(job, span) if ranks > 1 else 0.0

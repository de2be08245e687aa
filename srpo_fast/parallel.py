"""Ranks, groups and the device: the one place that knows a CPU from a GPU.

Every rank runs the same program. World order is Megatron's: tensor-parallel ranks are neighbours, then
context-parallel ones, then data-parallel ones, then pipeline stages, so
rank = tp_rank + tp * (cp_rank + cp * (dp_rank + dp * pp_rank)).
"""

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import torch
import torch.distributed as dist

from srpo_fast.config import ConfigError, ParallelConfig, UserError
from srpo_fast.deadline import left_to_another_rank

T = TypeVar("T")
K = TypeVar("K", int, str)

# torch says of every rank's first barrier that it takes the current GPU, which is the right one
warnings.filterwarnings("ignore", message=r"barrier\(\): using the device under current context")

NVIDIA_DRIVER = Path("/proc/driver/nvidia")
NO_GPU = ("", "-1", "NoDevFiles")  # how CUDA_VISIBLE_DEVICES hides all of them
HANG_TIMEOUT = timedelta(hours=2)  # of a collective; deadline.py ends a run that hangs long before, and says where


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    rank: int
    world: int
    tp: int
    pp: int
    device: torch.device
    cp: int = 1
    chunks_per_stage: int = 1
    sequence_parallel: bool = False
    distributed_optimizer: bool = False

    @property
    def dp(self) -> int:
        return self.world // (self.tp * self.cp * self.pp)

    @property
    def tp_rank(self) -> int:
        return self.rank % self.tp

    @property
    def cp_rank(self) -> int:
        return self.rank // self.tp % self.cp

    @property
    def dp_rank(self) -> int:
        return self.rank // (self.tp * self.cp) % self.dp

    @property
    def pp_rank(self) -> int:
        return self.rank // (self.tp * self.cp * self.dp)

    def rank_of_stage(self, stage: int) -> int:
        """The rank that has the same place as this one in another pipeline stage."""
        return self.rank + (stage - self.pp_rank) * (self.world // self.pp)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_last_stage(self) -> bool:
        return self.pp_rank == self.pp - 1

    @property
    def engines(self) -> int:
        """Rollout engines in the world: one for every tensor-parallel group, pipeline stages included."""
        return self.world // self.tp

    @property
    def engine_rank(self) -> int:
        return self.rank // self.tp


def start(config: ParallelConfig) -> Parallel:
    """Joins torchrun's process group, or makes one of this process alone. Raises ConfigError on impossible sizes."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    world = int(os.environ["WORLD_SIZE"])
    if world % (size := config.tp * config.pp * config.cp):
        cp = f" x parallel.cp={config.cp}" if config.cp > 1 else ""
        raise ConfigError(
            f"parallel.tp={config.tp} x parallel.pp={config.pp}{cp} does not divide the {world} processes that run; "
            f"start a multiple of {size} (torchrun --nproc-per-node, or srpo train --ranks)"
        )
    device = _device(int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if device.type == "cuda" else "gloo"
    os.environ.setdefault("MASTER_PORT", "0" if world > 1 else "29500")
    if world == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=HANG_TIMEOUT)
    else:
        dist.init_process_group(backend, timeout=HANG_TIMEOUT)
    shared = {"sequence_parallel": config.sequence_parallel and config.tp > 1}  # Megatron refuses it for one rank
    return Parallel(rank=dist.get_rank(), world=world, device=device, **config.model_dump() | shared)


def stop() -> None:
    """Leaves the process group; an engine deleted before may have taken it along already."""
    if dist.is_initialized():
        dist.destroy_process_group()


def lost_rank(error: RuntimeError) -> str | None:
    """What to tell of a collective that failed because another rank is gone; None: the error is another one."""
    text = str(error)
    if not isinstance(error, dist.DistError) and "gloo" not in text:
        return None
    cause = text.partition("] ")[2].partition(". ")[0] if "gloo" in text else text.splitlines()[0]
    return f"another rank has ended ({cause:.120}); its own message says why. The last checkpoint is intact"


def agree(make: Callable[[], T], parallel: Parallel, refusal: type[Exception] = UserError) -> T:
    """What `make` returns here. A refusal of one rank is raised by all: none is left waiting for another."""
    try:
        made, mine = make(), None
    except refusal as error:
        made, mine = None, str(error)
    if first := next((error for error in gather_from_ranks(mine, parallel) if error), None):
        raise refusal(first)
    return made  # type: ignore[return-value]


def from_main(make: Callable[[], T], parallel: Parallel) -> T:
    """What `make` returns on rank 0, on every rank, however long it takes. A UserError of rank 0 is raised by all."""
    if parallel.world == 1:
        return make()
    # a group of its own, because its members wait for hours without being in any trouble
    group = dist.new_group(backend="gloo", timeout=timedelta(days=365))
    outcome: list[tuple[T | None, str | None]] = [(None, None)]
    if parallel.is_main:
        try:
            outcome = [(make(), None)]
        except UserError as error:
            outcome = [(None, str(error))]
    with nullcontext() if parallel.is_main else left_to_another_rank():
        dist.broadcast_object_list(outcome, src=0, group=group)
    dist.destroy_process_group(group)
    made, error = outcome[0]
    if error is not None:
        raise UserError(error)
    return made  # type: ignore[return-value]


def gather_from_engines(mine: T, parallel: Parallel) -> list[T]:
    """What every engine's ranks hold, in engine order, on every rank. TP ranks must hold equal values.

    Control data (tokens, scores) is replicated on purpose: every decision after it is then made alike on all ranks
    without another collective.
    """
    everyone = gather_from_ranks(mine, parallel)
    for rank, theirs in enumerate(everyone):
        leader = everyone[rank - rank % parallel.tp]
        if theirs != leader:
            raise RuntimeError(f"tensor-parallel ranks disagree on their engine's output: rank {rank} and its leader")
    return everyone[:: parallel.tp]


def require_equal(what: str, mine: str, parallel: Parallel) -> None:
    """Raises RuntimeError, on every rank, unless all ranks pass the same `mine`; a small collective."""
    everyone = gather_from_ranks(mine, parallel)
    if different := [rank for rank, theirs in enumerate(everyone) if theirs != everyone[0]]:
        raise RuntimeError(f"ranks disagree on {what}: ranks {', '.join(map(str, different))} differ from rank 0")


def gather_from_ranks(mine: T, parallel: Parallel) -> list[T]:
    """What every rank holds, in rank order, on every rank."""
    if parallel.world == 1:
        return [mine]
    everyone: list[T | None] = [None] * parallel.world
    dist.all_gather_object(everyone, mine)
    return cast(list[T], everyone)


def merge_over_world(mine: dict[K, T], parallel: Parallel) -> dict[K, T]:
    """The entries of all ranks, sorted by key; where several have a key, the lowest rank's."""
    merged: dict[K, T] = {}
    for theirs in gather_from_ranks(mine, parallel):
        merged = theirs | merged
    return dict(sorted(merged.items()))


def sum_over_world(values: dict[str, float], parallel: Parallel) -> dict[str, float]:
    """Sums of per-rank values by key; every rank passes the same keys."""
    return _over_world(values, dist.ReduceOp.SUM, parallel)


def max_over_world(values: dict[str, float], parallel: Parallel) -> dict[str, float]:
    """The largest of per-rank values by key; every rank passes the same keys."""
    return _over_world(values, dist.ReduceOp.MAX, parallel)


def _over_world(values: dict[str, float], operation: dist.ReduceOp.RedOpType, parallel: Parallel) -> dict[str, float]:
    if parallel.world == 1:
        return values
    totals = torch.tensor(list(values.values()), dtype=torch.float64, device=parallel.device)
    dist.all_reduce(totals, op=operation)
    return dict(zip(values, totals.tolist(), strict=True))


def barrier() -> None:
    dist.barrier()


def machines_device() -> torch.device:
    """CUDA's where this machine has one, of no rank yet."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _device(local_rank: int) -> torch.device:
    """Raises ConfigError where the rank has no GPU of its own, which NCCL wants, or a GPU is there and out of reach."""
    if (device := machines_device()).type == "cpu":
        if torch.version.cuda and NVIDIA_DRIVER.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") not in NO_GPU:
            raise ConfigError(
                f"torch {torch.__version__} sees no GPU, though an NVIDIA driver is here: it may be too old for CUDA "
                f"{torch.version.cuda}, or this container was given none; set CUDA_VISIBLE_DEVICES= to train on the CPU"
            )
        return device
    if local_rank >= (gpus := torch.cuda.device_count()):
        raise ConfigError(
            f"{os.environ.get('LOCAL_WORLD_SIZE', local_rank + 1)} processes run on this machine, one a GPU, and torch "
            f"sees {gpus} here; start at most {gpus} (torchrun --nproc-per-node, or srpo train --ranks)"
        )
    torch.cuda.set_device(local_rank)
    # One stream for all that a rank does, the engine included. It is not the default one, of which no graph can be
    # captured: vLLM would go on with another, and every gradient would wait across streams.
    torch.cuda.set_stream(torch.cuda.Stream(local_rank))
    return torch.device("cuda", local_rank)

"""Run under torchrun: in a step of at most 3 seconds rank 1 sleeps, or dies, while the others wait for it."""

import os
import sys
import time

import torch.distributed as dist

from srpo_fast.config import ParallelConfig
from srpo_fast.deadline import deadline
from srpo_fast.parallel import lost_rank, start


def wait_forever() -> None:
    time.sleep(600)


def main(fault: str) -> None:
    parallel = start(ParallelConfig())
    try:
        with deadline(3.0, "step 7", parallel.rank):
            if not parallel.is_main:
                wait_forever() if fault == "sleeps" else os._exit(9)
            dist.barrier()
    except RuntimeError as error:
        print(f"error: {lost_rank(error)}", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])

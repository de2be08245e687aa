"""Run under torchrun, 3 seconds without progress allowed: in a step rank 1 sleeps, or dies; the others wait for it."""

import os
import sys
import time

import torch.distributed as dist

from srpo_fast.config import ParallelConfig
from srpo_fast.deadline import doing, watch
from srpo_fast.parallel import lost_rank, start


def wait_forever() -> None:
    time.sleep(600)


def main(fault: str) -> None:
    parallel = start(ParallelConfig())
    try:
        with watch(3.0), doing("step 7"):
            if not parallel.is_main:
                wait_forever() if fault == "sleeps" else os._exit(9)
            dist.barrier()
    except RuntimeError as error:
        print(f"error: {lost_rank(error)}", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])

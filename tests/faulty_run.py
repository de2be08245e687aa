"""train.py with a fault of rank 1 in step 1. The first argument names it, the others are train.py's."""

import os
import signal
import sys
from typing import NoReturn

from srpo_fast import train
from srpo_fast.train import Trainer

FAULTY_RANK, FAULTY_STEP = "1", 1


def die(*arguments: object, **settings: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def fail(*arguments: object, **settings: object) -> NoReturn:
    raise RuntimeError("the engine is broken")


def break_trainer(trainer: Trainer, fault: str) -> None:
    if fault == "killed":
        trainer.weight_sync.verify = die  # type: ignore[method-assign] - the weights are copied, the others wait
    else:
        trainer.engine.generate = fail  # type: ignore[method-assign]


def main(fault: str, arguments: list[str]) -> int:
    whole_step = Trainer.step

    def step(self: Trainer, number: int) -> object:
        if number == FAULTY_STEP:
            break_trainer(self, fault)
        return whole_step(self, number)

    if os.environ["RANK"] == FAULTY_RANK:
        Trainer.step = step  # type: ignore[method-assign, assignment]
    return train.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

"""How a run ends that cannot go on: one line where it says all, a traceback where it does not."""

import os
import sys
import time

from srpo_fast.config import UserError
from srpo_fast.parallel import lost_rank
from srpo_fast.policy import NotFinite
from srpo_fast.rewards.watch import RewardAlarm
from srpo_fast.rollout import PhaseError
from srpo_fast.weight_sync import EngineMismatch


def exit_code(error: UserError | RuntimeError) -> int:
    """2 for a user's mistake, 1 for what a run noticed by itself, both told in one line; raises any other error."""
    if isinstance(error, UserError | EngineMismatch | NotFinite | PhaseError | RewardAlarm):
        if os.environ.get("RANK", "0") != "0":
            time.sleep(10)  # rank 0 met the same error; the first to leave ends the others
        says = str(error)
    elif (lost := lost_rank(error)) is not None:
        says = lost
    else:
        raise error
    print(f"error: {says}", file=sys.stderr, flush=True)
    return 2 if isinstance(error, UserError) else 1

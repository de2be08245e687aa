"""Rewards by a function of the user's own (own_function.py), called in processes where it may hang, crash and print.

A call that fails costs its completion the reward and is counted. A result that is no reward is a mistake, and an error.
"""

from typing import Any

from srpo_fast.batch import Score
from srpo_fast.config import RewardConfig, UserError
from srpo_fast.rewards.own_function import PARTS, VERDICTS
from srpo_fast.rewards.paper import Graded, Shortfall, answer_shortfalls
from srpo_fast.workers.pool import Crashed, Done, Failed, Outcome, TimedOut, WorkerPool, WorkersDoNotStart


def start_reward_function(path_and_name: str, settings: RewardConfig) -> WorkerPool:
    """Workers that call it with (completion, answer) and give the fields of a Score: all parts, of the others some.

    Raises UserError if it cannot be loaded; run() raises one when a result is not what own_function.py asks for.
    """
    pool = WorkerPool(
        "srpo_fast.rewards.own_function:load_reward_function",
        path_and_name,
        workers=settings.workers,
        limit_s=settings.time_limit,
        memory_gib=None,  # it may hold a model
    )
    try:
        pool.prepare()
    except WorkersDoNotStart as error:
        raise UserError(f"expected {path_and_name} to load, but: {error}") from error
    return pool


def own_score(outcome: Outcome, graded: Graded | None) -> Score:
    """The Score of one call. `graded` says which answers are right where the function does not."""
    nothing: dict[str, Any] = dict.fromkeys(PARTS, 0.0) | dict.fromkeys(VERDICTS, False)
    failure = None
    match outcome:
        case Done(fields) if graded is None:
            pass
        case Done(fields):
            ours = {"first_correct": graded.first_correct, "second_correct": graded.second_correct}
            failures = tuple(answer_shortfalls(graded)) if graded.failure else ()
            fields = ours | fields | {"reasons": (*fields.get("reasons", ()), *failures)}
            failure = graded.failure
        case Failed(failure):
            fields = nothing | {"reasons": (Shortfall.REWARD_FUNCTION_ERROR,)}
        case TimedOut(failure):
            fields = nothing | {"reasons": (Shortfall.REWARD_FUNCTION_TIMEOUT,)}
        case Crashed(failure):
            fields = nothing | {"reasons": (Shortfall.REWARD_FUNCTION_CRASH,)}
    return Score(**{"reasons": ()} | fields, total=sum(fields[part] for part in PARTS), failure=failure)

"""Steps that trained nothing: a run of them ends like any other, and its model is the one that it began with."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

SHARES = {"rollout/groups_right": "right throughout", "rollout/groups_wrong": "wrong throughout"}


def idle_steps(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of metrics.jsonl whose steps made no update."""
    return [line for line in lines if line.get("train/updates") == 0]


def idle_warning(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """How many steps trained nothing, why, and what to do; None where all of them trained."""
    idle = idle_steps(lines)
    if not idle:
        return None
    shares = {words: fmean(line.get(key, 0.0) for line in idle) for key, words in SHARES.items()}
    shares["in between, but dropped or of equal rewards"] = max(0.0, 1 - sum(shares.values()))
    why = ", ".join(f"{100 * share:.0f} % {words}" for words, share in shares.items())
    outcome = ": stage 2 left the weights as they were" if len(idle) == len(lines) else ""
    return f"{len(idle):,} of {len(lines):,} steps trained nothing{outcome}. Of their groups {why}. {_remedy(shares)}"


def _remedy(shares: Mapping[str, float]) -> str:
    remedies = (
        "Take harder questions, or raise advantage.accuracy_high",
        "Take easier questions, look in completions/ whether the policy writes the form and the golds are right, "
        "or lower advantage.accuracy_low",
        "Raise rollout.group_size, or widen advantage.accuracy_low and accuracy_high",
    )
    most = max(range(len(remedies)), key=list(shares.values()).__getitem__)
    return f"{remedies[most]}; rollout.refill_rounds samples further prompts in the place of dropped groups"

"""Which answered questions are worth a reflection: the mix of right and wrong first answers, and who stands in.

Right and wrong candidates each stand in a queue of their own, in an order that the seed alone decides. Taken are the
first ones of each queue that come to something: whatever order results arrive in, and however often the process was
killed, the same questions are asked about and the same are kept.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Queue:
    """Candidates of one kind, and how many of them are wanted."""

    ids: Sequence[str]
    wanted: int

    def pending(self, outcomes: Mapping[str, object]) -> list[str]:
        """The ids to ask about now so that `wanted` can succeed; none when they have, or nobody is left.

        outcomes: what came of those asked about so far; None: nothing.
        """
        hopeful, pending = 0, []
        for candidate in self.ids:
            if hopeful == self.wanted:
                break
            if outcomes.get(candidate, True) is not None:
                hopeful += 1
                if candidate not in outcomes:
                    pending.append(candidate)
        return pending

    def successes(self, outcomes: Mapping[str, object]) -> list[str]:
        """Those that came to something, `wanted` at most."""
        return [candidate for candidate in self.ids if outcomes.get(candidate) is not None][: self.wanted]


def open_queues(is_right: Mapping[str, bool], right_share: float | None, wanted: int, seed: int) -> tuple[Queue, ...]:
    """The queue of right and that of wrong first answers; a single one if they are taken as sampled.

    is_right: of every candidate, in the pool's order.
    """
    # by each one's own chance, so that with more candidates the earlier ones keep their order
    shuffled = sorted(is_right, key=lambda candidate: hashlib.sha256(f"{seed}:{candidate}".encode()).digest())
    if right_share is None:
        return (Queue(shuffled, min(wanted, len(shuffled))),)
    right = [candidate for candidate in shuffled if is_right[candidate]]
    wrong = [candidate for candidate in shuffled if not is_right[candidate]]
    num_right, num_wrong = mix(len(right), len(wrong), right_share, wanted)
    return (Queue(right, num_right), Queue(wrong, num_wrong))


def mix(right: int, wrong: int, right_share: float, wanted: int) -> tuple[int, int]:
    """How many right and wrong ones to take: `right_share` of them right, `wanted` or as many as there can be."""
    total = min(wanted, right + wrong)
    if right_share > 0:
        total = min(total, int(right / right_share))
    if right_share < 1:
        total = min(total, int(wrong / (1 - right_share)))
    num_right = round(total * right_share)
    return num_right, total - num_right


def keep(queues: tuple[Queue, ...], outcomes: Mapping[str, object], right_share: float | None) -> list[str]:
    """The ids that make the file, in no order of meaning: successes in the wanted mix."""
    successes = [queue.successes(outcomes) for queue in queues]
    are_full = all(len(found) == queue.wanted for found, queue in zip(successes, queues, strict=True))
    if right_share is None or are_full:
        return [candidate for found in successes for candidate in found]
    right, wrong = successes
    num_right, num_wrong = mix(len(right), len(wrong), right_share, len(right) + len(wrong))
    return right[:num_right] + wrong[:num_wrong]

"""Scoring while the engine still samples: groups that are done go to the scorer, in a thread beside the engine's.

The scorer waits for processes most of its time (workers/pool.py), which is time in which the engine computes.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from srpo_fast.batch import Completion, Prompt, Score

# prompts with their completions -> their scores; each group's are the same in whatever company
Scorer = Callable[[Sequence[tuple[Prompt, Sequence[Completion]]]], list[tuple[Score, ...]]]

Numbered = tuple[int, tuple[Prompt, Sequence[Completion]]]  # a group's number, and the group


class BackgroundScoring:
    """Scores what was added so far in one call, then what came meanwhile; one call at a time.

    Leaving the context waits for the call that is under way, and drops what was not begun.
    """

    def __init__(self, score: Scorer) -> None:
        self._score = score
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")
        self._waiting: deque[Numbered] = deque()
        self._calls: list[Future[dict[int, tuple[Score, ...]]]] = []

    def __enter__(self) -> "BackgroundScoring":
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def add(self, number: int, prompt: Prompt, completions: Sequence[Completion]) -> None:
        """Returns at once."""
        self._waiting.append((number, (prompt, completions)))
        self._calls.append(self._thread.submit(self._score_waiting))

    def scores(self) -> dict[int, tuple[Score, ...]]:
        """The scores of all that was added, by its number; waits for them. Raises what the scorer raised first."""
        return {number: scores for call in self._calls for number, scores in call.result().items()}

    def _score_waiting(self) -> dict[int, tuple[Score, ...]]:
        groups = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not groups:  # an earlier call took them along
            return {}
        scores = self._score([group for _, group in groups])
        return {number: s for (number, _), s in zip(groups, scores, strict=True)}

"""The watch over a run's rewards: ends it when they teach nothing, before days are spent on them."""

from collections import Counter
from collections.abc import Callable, Sequence

from srpo_fast.batch import Group, Score
from srpo_fast.config import RewardConfig
from srpo_fast.rewards.paper import Shortfall

FLAT = 1e-9  # rewards closer than this are equal


class RewardAlarm(RuntimeError):
    """The rewards are not to be trained on. The message says what is wrong with them and what to do."""


class RewardWatch:
    """Looks at every step once. flat_steps: how many in a row gave every completion the same reward."""

    def __init__(self, settings: RewardConfig, note: Callable[[str], None]) -> None:
        """note: shows one line. A failure, and golds that cannot be parsed, are told of once."""
        self.flat_steps = 0
        self._settings, self._note = settings, note
        self._told: set[str] = set()

    def look(self, step: int, groups: Sequence[Group]) -> None:
        """Raises RewardAlarm when too many completions could not be graded, or rewards have been equal for too long."""
        scores = [score for group in groups for score in group.scores]
        self._tell(scores)
        failed = [score for score in scores if score.failure is not None]
        if len(failed) > self._settings.max_error_share * len(scores):
            raise RewardAlarm(self._too_many_failures(step, failed, len(scores)))
        totals = [score.total for score in scores]
        self.flat_steps = self.flat_steps + 1 if max(totals) - min(totals) < FLAT else 0
        if self._settings.max_flat_steps and self.flat_steps >= self._settings.max_flat_steps:
            raise RewardAlarm(self._too_flat(step, scores))

    def state_dict(self) -> dict[str, int]:
        return {"flat_steps": self.flat_steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.flat_steps = state["flat_steps"]

    def _tell(self, scores: Sequence[Score]) -> None:
        if failure := next((score.failure for score in scores if score.failure is not None), None):
            self._tell_once("failure", f"a completion could not be graded and earns nothing for it: {failure}")
        golds = sum(Shortfall.UNPARSABLE_GOLD in score.reasons for score in scores)
        if golds > self._settings.max_error_share * len(scores):
            self._tell_once(
                "golds",
                f"{golds} of {len(scores)} completions answer a question whose gold cannot be parsed: only an answer "
                "of the very same text is right there; look for unparsable_gold in completions/step_*.jsonl",
            )

    def _tell_once(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._note(text)

    def _too_many_failures(self, step: int, failed: Sequence[Score], total: int) -> str:
        return (
            f"{len(failed)} of the {total} completions of step {step} could not be graded ({_counts(failed)}), more "
            f"than reward.max_error_share={self._settings.max_error_share:g}; the first: {failed[0].failure}. "
            f"completions/step_{step:06d}.jsonl in the run directory holds some. Repair the golds or the reward "
            "function, or raise reward.time_limit or reward.max_error_share; then start again from the last checkpoint"
        )

    def _too_flat(self, step: int, scores: Sequence[Score]) -> str:
        return (
            f"every completion of steps {step + 1 - self.flat_steps} to {step} earned the same reward, "
            f"{scores[0].total:g} ({_counts(scores)}): there is nothing to learn from. See completions/step_*.jsonl in "
            "the run directory. Check that the golds and the reward fit what the prompt asks for, or that the policy "
            "writes the form at all; reward.max_flat_steps=null lets a run go on"
        )


def _counts(scores: Sequence[Score]) -> str:
    """The commonest reasons and how many completions have them."""
    counts = Counter(reason for score in scores for reason in score.reasons)
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common(4)) or "no reasons"

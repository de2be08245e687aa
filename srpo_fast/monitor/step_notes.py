"""What a step's figures give reason to say, each once in a run."""

from collections.abc import Iterator, Mapping

from srpo_fast.config import LossConfig


class StepNotes:
    def __init__(self, settings: LossConfig) -> None:
        self._settings = settings
        self._told: set[str] = set()

    def on(self, step: int, metrics: Mapping[str, float]) -> Iterator[str]:
        """The lines to show after a step, by its metrics."""
        stop, warn = self._settings.mismatch_stop, self._settings.mismatch_warn
        found = metrics.get("rollout/mismatch_abs", 0.0)
        if found > (stop / 2 if warn is None else warn) and "mismatch" not in self._told:
            self._told.add("mismatch")
            yield (
                f"step {step}: the engine's log-probs are {found:.1e} from the policy's on average; "
                f"loss.mismatch_stop={stop:.0e} ends the run. In bf16 0.01 is rounding; more, or a mean that grows, "
                "biases the gradient: see rollout/mismatch_kl, and loss.importance, which corrects for it"
            )

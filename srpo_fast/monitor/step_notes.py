"""What a step's figures give reason to say, each once in a run."""

import math
from collections.abc import Iterator, Mapping

from srpo_fast.config import LossConfig

WARM_UP = 20  # steps after which a process has what it needs: caches, pools, one of every kind of batch
GROWTH_GIB = 8.0  # of host memory from there on that no cache explains


class StepNotes:
    def __init__(self, settings: LossConfig) -> None:
        self._settings = settings
        self._told: set[str] = set()
        self._steps = 0  # seen by this process
        self._host_gib = math.inf  # held when they were WARM_UP

    def on(self, step: int, metrics: Mapping[str, float]) -> Iterator[str]:
        """The lines to show after a step, by its metrics."""
        yield from self._of_mismatch(step, metrics)
        yield from self._of_host_memory(step, metrics)

    def _of_host_memory(self, step: int, metrics: Mapping[str, float]) -> Iterator[str]:
        held = metrics.get("memory/host_gib", 0.0)
        self._steps += 1
        if self._steps == WARM_UP:
            self._host_gib = held
        if held > self._host_gib + GROWTH_GIB and "memory" not in self._told:
            self._told.add("memory")
            yield (
                f"step {step}: this process holds {held:.1f} GiB of host memory, {self._steps - WARM_UP} steps ago "
                f"{self._host_gib:.1f}; if memory/host_gib goes on rising, the machine will end the run; the same "
                "command goes on from its last checkpoint"
            )

    def _of_mismatch(self, step: int, metrics: Mapping[str, float]) -> Iterator[str]:
        stop, warn = self._settings.mismatch_stop, self._settings.mismatch_warn
        found = metrics.get("rollout/mismatch_abs", 0.0)
        if found > (stop / 2 if warn is None else warn) and "mismatch" not in self._told:
            self._told.add("mismatch")
            yield (
                f"step {step}: the engine's log-probs are {found:.1e} from the policy's on average; "
                f"loss.mismatch_stop={stop:.0e} ends the run. In bf16 0.01 is rounding; more, or a mean that grows, "
                "biases the gradient: see rollout/mismatch_kl, and loss.importance, which corrects for it"
            )

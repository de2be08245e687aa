"""The order in which the steps meet the questions."""

from collections.abc import Set
from typing import Any

import numpy as np

from srpo_fast.config import UserError


class PromptSampler:
    """An endless stream of indices of questions: epoch after epoch, each a permutation, no index twice in a step.

    All follows from the arguments and what was taken: resuming repeats and skips nothing.
    """

    def __init__(self, num_questions: int, seed: int) -> None:
        self._arguments = {"num_questions": num_questions, "seed": seed}
        self._restart()

    def take(self, count: int, in_step: Set[int], bad: Set[int]) -> list[int]:
        """The next `count` indices that the step does not have yet; bad ones are passed over.

        Raises UserError when there are not so many.
        """
        available = self._arguments["num_questions"] - len(in_step | bad)
        if count > available:
            raise UserError(
                f"expected {count} more questions for a step that has {len(in_step - bad)}, got {available}: of "
                f"{self._arguments['num_questions']} questions {len(bad)} cannot be used; lower data.prompts_per_step "
                "or add questions"
            )
        taken: list[int] = []
        while len(taken) < count:
            if not self._left:
                self._begin_epoch({*in_step, *taken})
            index = self._left.pop()
            if index not in bad:
                taken.append(index)
        return taken

    def state_dict(self) -> dict[str, Any]:
        return {**self._arguments, "epochs": self._epochs, "left": len(self._left), "late": sorted(self._late)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken. Raises UserError if that sampler had other arguments."""
        for name, mine in self._arguments.items():
            if state[name] != mine:
                raise UserError(
                    f"the checkpoint's sampler has {name} {state[name]}, this run {mine}; resume with the data and "
                    "settings of the checkpoint, or start a new run"
                )
        self._restart()
        for epoch in range(state["epochs"]):
            self._begin_epoch(set(state["late"]) if epoch + 1 == state["epochs"] else set())
        del self._left[state["left"] :]

    def _restart(self) -> None:
        self._random = np.random.default_rng(self._arguments["seed"])
        self._left: list[int] = []  # of the current epoch, the next one at the end
        self._late: set[int] = set()  # what its step already had when the epoch began
        self._epochs = 0

    def _begin_epoch(self, in_step: set[int]) -> None:
        """A new permutation in which what the step already has from the last epoch comes at the end."""
        order: list[int] = self._random.permutation(self._arguments["num_questions"]).tolist()
        order = [i for i in order if i not in in_step] + [i for i in order if i in in_step]
        self._left, self._late, self._epochs = order[::-1], in_step, self._epochs + 1

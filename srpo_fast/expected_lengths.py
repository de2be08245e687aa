"""How long a prompt's completions are likely to be."""

from collections.abc import Sequence
from typing import Any

from srpo_fast.batch import Completion, Prompt


class ExpectedLengths:
    """As its last completions were, or else as the mean of all so far.

    Part of a checkpoint: which engine samples what decides, where a step ends early, what is left open.
    """

    def __init__(self) -> None:
        self._of_prompt: dict[str, float] = {}
        self._tokens = self._completions = 0

    def of(self, prompt: Prompt) -> float:
        mean = self._tokens / self._completions if self._completions else 1.0
        return self._of_prompt.get(prompt.question.id, mean)

    def learn(self, prompt: Prompt, completions: Sequence[Completion]) -> None:
        tokens = sum(len(completion.token_ids) for completion in completions)
        self._of_prompt[prompt.question.id] = tokens / len(completions)
        self._tokens += tokens
        self._completions += len(completions)

    def state_dict(self) -> dict[str, Any]:
        return {"of_prompt": dict(self._of_prompt), "tokens": self._tokens, "completions": self._completions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._of_prompt = dict(state["of_prompt"])
        self._tokens, self._completions = state["tokens"], state["completions"]

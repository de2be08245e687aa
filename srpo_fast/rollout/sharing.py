"""Which engine samples which prompts, so that all of them are done at about the same time."""

from collections.abc import Sequence

from srpo_fast.batch import Completion, Prompt


class ExpectedLengths:
    """How long a prompt's completions are likely to be: as its last ones, or else as the mean of all so far.

    It only balances work, so it is not part of a checkpoint.
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


def share_out(costs: Sequence[float], engines: int) -> list[list[int]]:
    """The places of every engine's prompts, the longest first: each goes to the engine with the least work so far.

    A function of its arguments alone, so every rank shares out alike. Equal costs are dealt round.
    """
    loads = [0.0] * engines
    shares: list[list[int]] = [[] for _ in range(engines)]
    for place in sorted(range(len(costs)), key=lambda place: -costs[place]):
        lightest = loads.index(min(loads))
        loads[lightest] += costs[place]
        shares[lightest].append(place)
    return shares

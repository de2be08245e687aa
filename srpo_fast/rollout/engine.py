"""What the loop needs of an engine that samples, and how it is asked; vllm_engine.py is the one there is."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from torch import nn

from srpo_fast.batch import NOTHING, Completion, Prompt
from srpo_fast.expected_lengths import ExpectedLengths
from srpo_fast.rollout.phases import Phases

Progress = Callable[[int], object]  # told how many more completions are done


class StaleEngine(RuntimeError):
    """Sampling was asked of weights that are not the policy's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Completions of one prompt that go on from the same beginning."""

    samples: int
    max_tokens: int  # new ones
    seed: int  # of the first sample; the others take the numbers after it
    begun: Completion = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    prompt: Prompt
    temperature: float  # 0: greedy
    draws: tuple[Draw, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What became of a draw: as many completions as it asked for, each with the tokens that were begun."""

    request: int  # its place among the requests of the call
    draw: int  # and the draw's place in it
    completions: tuple[Completion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to sample; `stream` names the draw, so that no two uses of a prompt share random numbers."""

    samples: int  # completions a prompt
    temperature: float
    max_tokens: int
    stream: tuple[int | str, ...]  # for example (seed, "rollout", step)
    finish_share: float = 1.0  # an engine stops when this share of its completions, and a whole group, are done
    sharing: Literal["by_length", "on_demand"] = "by_length"  # of the prompts among the engines (sharing.py)

    def request(self, prompt: Prompt) -> Request:
        """All samples at once, from the beginning."""
        draw = Draw(samples=self.samples, max_tokens=self.max_tokens, seed=self.seed(prompt.question.id))
        return Request(prompt=prompt, temperature=self.temperature, draws=(draw,))

    def seed(self, question_id: str, *continued: int) -> int:
        """A function of (run, step, prompt).

        continued: of a completion that an earlier step began, its number and its tokens so far; the step that goes on
        with it draws from a stream of its own.
        """
        digest = hashlib.sha256(repr((*self.stream, question_id, *continued)).encode()).digest()
        return int.from_bytes(digest[:4], "little") >> 1


class RolloutEngine(Protocol):
    """One a tensor-parallel group; its ranks call everything together, with equal arguments."""

    policy_version: int  # of the weights inside; -1: those of its model directory, or none yet
    phases: Phases  # the trainer tells them that it trains; sampling wakes the engine by itself
    lengths: ExpectedLengths
    max_num_seqs: int  # completions that it samples at a time

    def generate(
        self, requests: Iterable[Request], *, policy_version: int, ahead: int | None = None,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> Iterator[Drawn]:  # fmt: skip
        """Samples as long as this is iterated, and gives every draw as it is done.

        ahead: completions to have under way before another request is read; None: all are read at once. is_enough:
        asked between two steps when all requests are read; if so, what is under way comes as it is by then.
        Raises StaleEngine when the weights inside are not of `policy_version`.
        """
        ...

    def parameters(self) -> dict[str, nn.Parameter]:
        """This rank's part of the model, live, by the engine's names: what a weight sync writes into."""
        ...

    def weights_changed(self, policy_version: int) -> None:
        """What was computed with the old weights is forgotten."""
        ...

    def close(self) -> None: ...


def sample_all(
    engine: RolloutEngine, prompts: Sequence[Prompt], sampling: Sampling, *, policy_version: int
) -> list[tuple[Completion, ...]]:
    """`sampling.samples` completions of every prompt, in the prompts' order."""
    found = engine.generate(map(sampling.request, prompts), policy_version=policy_version)
    by_place = {drawn.request: drawn.completions for drawn in found}
    return [by_place[place] for place in range(len(prompts))]


def sample_stream(
    engine: RolloutEngine, prompts: Iterable[Prompt], sampling: Sampling, ahead: int
) -> Iterator[tuple[Prompt, Completion]]:
    """A completion of every prompt, as they finish, of the weights that are inside.

    The prompts come back without their pixels, of which there would be many.
    """
    under_way: list[Prompt | None] = []

    def ask() -> Iterator[Request]:
        for prompt in prompts:
            under_way.append(replace(prompt, pixel_values=prompt.pixel_values[:0].clone()))
            yield sampling.request(prompt)

    for drawn in engine.generate(ask(), policy_version=engine.policy_version, ahead=ahead):
        prompt, under_way[drawn.request] = under_way[drawn.request], None
        assert prompt is not None
        yield prompt, drawn.completions[0]

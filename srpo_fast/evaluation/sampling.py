"""A model directory answers items: vLLM in this process, greedily, images as in training."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from srpo_fast.bad_record import BadRecord, Problem
from srpo_fast.batch import Prompt, Question
from srpo_fast.config import Config, ParallelConfig, UserError
from srpo_fast.evaluation.benchmark import Item
from srpo_fast.evaluation.directory import Said
from srpo_fast.images import load_image, resize_once
from srpo_fast.model_limits import model_file
from srpo_fast.parallel import start, stop
from srpo_fast.prompts import PromptEncoder
from srpo_fast.rollout import Pixels, RolloutEngine, Sampling, VllmEngine, sample_stream

LONGEST_PROMPT = 16_384  # tokens: seven images of the largest size and their question
SHORTEST_PROMPT = 64
AHEAD = 2  # times max_num_seqs: prompts the engine holds, so that it never waits for one
STREAM = ("evaluation",)  # greedy: nothing is drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemQuestion:
    """Makes questions of items as the run's own are made."""

    image_root: Path
    min_pixels: int
    max_pixels: int

    def __call__(self, item: Item) -> Question:
        """Raises BadRecord for an image that cannot be used."""
        images = tuple(
            resize_once(load_image(image, self.image_root), min_pixels=self.min_pixels, max_pixels=self.max_pixels)
            for image in item.images
        )
        return Question(id=item.id, text=item.prompt, images=images, answer=item.gold[0] if item.gold else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """An item that cannot be asked, and why."""

    problem: Problem


def ask(
    items: Iterable[Item], encode: Callable[[Item], Prompt], engine: Callable[[], RolloutEngine], max_tokens: int,
    ahead: int,
) -> Iterator[Said | Unasked]:  # fmt: skip
    """Greedy responses and what cannot be asked, as they come; `engine` is called when there is a prompt for it.

    ahead: how many prompts to hand the engine before it has answered one.
    """
    unasked: deque[Unasked] = deque()
    prompts = _prompts(items, encode, unasked)
    first = next(prompts, None)
    yield from _taken(unasked)
    if first is not None:
        sampling = Sampling(samples=1, temperature=0.0, max_tokens=max_tokens, stream=STREAM)
        for prompt, completion in sample_stream(engine(), chain([first], prompts), sampling, ahead):
            yield Said(
                id=prompt.question.id,
                text=completion.text,
                is_finished=completion.is_finished,
                prompt_tokens=len(prompt.token_ids),
                completion_tokens=len(completion.token_ids),
            )
            yield from _taken(unasked)
        yield from _taken(unasked)


def _taken(unasked: deque[Unasked]) -> Iterator[Unasked]:
    while unasked:
        yield unasked.popleft()


def _prompts(items: Iterable[Item], encode: Callable[[Item], Prompt], unasked: deque[Unasked]) -> Iterator[Prompt]:
    """The prompts of those that have one; the others go to `unasked`."""
    for item in items:
        try:
            yield encode(item)
        except BadRecord as error:
            problem = Problem(id=item.id, place=item.id, reason=error.reason, message=" ".join(str(error).split()))
            unasked.append(Unasked(problem=problem))


class Sampler:
    """The model of a directory; its engine starts with the first question and serves until close()."""

    def __init__(self, model_dir: Path, config: Config, max_tokens: int) -> None:
        """Raises UserError if there is no model, or no room for a prompt beside max_tokens in its context."""
        room = _context(model_dir) - max_tokens
        if room < SHORTEST_PROMPT:
            raise UserError(
                f"the context of {model_dir} is {room + max_tokens:,} tokens, which leaves no prompt beside "
                f"{max_tokens:,} tokens of answer; lower --max-tokens"
            )
        self._model_dir, self._config, self._max_tokens = model_dir, config, max_tokens
        self._max_prompt_tokens = min(LONGEST_PROMPT, room)
        self._encoder = PromptEncoder.from_pretrained(model_dir, self._max_prompt_tokens)
        self._engine: RolloutEngine | None = None

    def answers(self, items: Iterable[Item], question_of: ItemQuestion, system: str) -> Iterator[Said | Unasked]:
        """What the model says to each, as it comes, or why it cannot be asked."""
        encode = partial(encoded, self._encoder, question_of, system)
        ahead = AHEAD * self._config.rollout.max_num_seqs
        yield from ask(items, encode, self._opened, self._max_tokens, ahead)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            stop()

    def _opened(self) -> RolloutEngine:
        self._engine = self._engine or self._start()
        return self._engine

    def _start(self) -> RolloutEngine:
        rollout = self._config.rollout.model_copy(update={"max_tokens": self._max_tokens})
        return VllmEngine(
            self._model_dir, rollout, dtype=self._config.model.dtype, seed=self._config.run.seed,
            max_prompt_tokens=self._max_prompt_tokens, banned_ids=self._encoder.banned_ids,
            decode=self._encoder.decode, images=Pixels(), parallel=start(ParallelConfig()),
        )  # fmt: skip


def encoded(encoder: PromptEncoder, question_of: ItemQuestion, system: str, item: Item) -> Prompt:
    return encoder.encode(question_of(item), system)


def fingerprint(model_dir: Path) -> dict[str, Any]:
    """What tells one set of weights from another without reading them: names, sizes and times of the files."""
    files = sorted([*model_dir.glob("*.safetensors"), model_dir / "config.json"])
    stats = ((file.name, file.stat()) for file in files if file.is_file())
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats}


def _context(model_dir: Path) -> int:
    """How many tokens the model takes."""
    file = model_file(model_dir)
    try:
        config = json.loads(file.read_bytes())
        length = config.get("text_config", {}).get("max_position_embeddings") or config["max_position_embeddings"]
        return int(length)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"expected max_position_embeddings in {file}, got: {error!r:.200}; check --model") from error

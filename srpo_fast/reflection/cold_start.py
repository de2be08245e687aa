"""Cold-start SFT on the examples of an SFT file (paper eq 1), whoever made it."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import overload

from srpo_fast.batch import Question, TrainingSequence
from srpo_fast.config import ColdStartConfig, Config, FirstAnswerLoss, OptimizerConfig, RewardConfig, UserError
from srpo_fast.formats.sft import SftExample, read_sft
from srpo_fast.images import ImageError, check_image, load_image, resize_once
from srpo_fast.loss import supervised_loss, with_token_weights
from srpo_fast.packing import Packer
from srpo_fast.parallel import Parallel, from_main
from srpo_fast.policy import Policy
from srpo_fast.prompts import PromptEncoder, PromptTooLong
from srpo_fast.reflection.gold import Claim, GoldCheck
from srpo_fast.responses import final_value, parse
from srpo_fast.schedule import learning_rate

KEPT_PIXELS = 2**28  # fp32 values of pictures kept between epochs, 1 GiB; others are read and encoded again


def open_sequences(
    file: Path, config: Config, encoder: PromptEncoder, parallel: Parallel, note: Callable[[str], None]
) -> "SftSequences":
    """The examples of an SFT file under the settings of this run, the same on every rank; those without image noted.

    A system prompt of the file's own is kept.
    """
    settings = config.cold_start
    assert settings is not None
    examples = read_sft(file)
    root = settings.image_root or file.parent
    # on one rank each, because what is found may differ with the machine and with the time it takes
    if bad := from_main(lambda: _bad_images(examples, root), parallel):
        note(f"{len(bad):,} of {len(examples):,} examples of {file} have no readable image; the first: {bad[min(bad)]}")
        examples = [example for index, example in enumerate(examples) if index not in bad]
    if others := sum(example.system not in (None, config.prompt.rollout_system) for example in examples):
        note(f"{others:,} examples of {file} have another system prompt than prompt.rollout_system, stage 2's")
    return SftSequences(
        examples,
        from_main(lambda: learns_first(examples, settings.first_answer_loss, config.reward), parallel),
        encoder,
        system_prompt=config.prompt.rollout_system,
        image_root=root,
        min_pixels=config.data.min_pixels,
        max_pixels=config.data.max_pixels,
    )


class SftSequences(Sequence[TrainingSequence]):
    """The examples as training sequences, made when they are asked for."""

    def __init__(
        self, examples: Sequence[SftExample], learns_first: Sequence[bool], encoder: PromptEncoder, *,
        system_prompt: str, image_root: Path, min_pixels: int, max_pixels: int,
    ) -> None:  # fmt: skip
        """learns_first: whether the loss covers an example's first solution. system_prompt: where an example has none.

        image_root: where relative image paths start.
        """
        self._examples, self._learns_first, self._encoder = examples, learns_first, encoder
        self._system_prompt, self._image_root = system_prompt, image_root
        self._budget = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        self._kept: dict[int, TrainingSequence] = {}
        self._kept_pixels = 0

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> TrainingSequence: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrainingSequence]: ...
    def __getitem__(self, index: int | slice) -> TrainingSequence | Sequence[TrainingSequence]:
        """Raises PromptTooLong, and ImageError when an image's body is damaged."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index in self._kept:
            return self._kept[index]
        sequence = self._sequence(self._examples[index], self._learns_first[index])
        self._kept_pixels += sequence.prompt.pixel_values.numel()
        if self._kept_pixels <= KEPT_PIXELS:
            self._kept[index] = sequence
        return sequence

    def _sequence(self, example: SftExample, learns_first: bool) -> TrainingSequence:
        images = tuple(resize_once(load_image(image, self._image_root), **self._budget) for image in example.images)
        question = Question(id=example.id, text=example.text, images=images, answer="")
        text = example.assistant
        learned_from = 0 if learns_first else end_of_first(text)
        mask = [start >= learned_from for start in self._encoder.token_starts(text)]
        return TrainingSequence(
            prompt=self._encoder.encode(question, example.system or self._system_prompt),
            completion_ids=(*self._encoder.token_ids(text), self._encoder.eos_token_id),
            loss_mask=(*mask, True),
            advantage=1.0,
            rollout_logprobs=(0.0,) * (len(mask) + 1),
            token_weight=0.0,
        )


def _bad_images(examples: Sequence[SftExample], root: Path) -> dict[int, str]:
    """What is wrong with an image of an example, by index, as far as the headers show."""
    bad = {}
    for index, example in enumerate(examples):
        try:
            for image in example.images:
                check_image(image, root)
        except ImageError as error:
            bad[index] = str(error)
    return bad


def end_of_first(text: str) -> int:
    """Where the first solution ends: before the reflection, else after the first answer block; 0 without either."""
    reflection, answer = text.find("<reflection>"), text.find("</answer>")
    return reflection if reflection >= 0 else answer + len("</answer>") if answer >= 0 else 0


def learns_first(examples: Sequence[SftExample], policy: FirstAnswerLoss, reward: RewardConfig) -> list[bool]:
    """Whether the loss covers the first solution of every example; right is one whose answer is the last answer."""
    if policy != "when_right":
        return [policy == "always"] * len(examples)
    answers = [parse(example.assistant) for example in examples]
    claims = [
        Claim(each.first_answer or "", example.text, final_value(each.second_answer or ""))
        for each, example in zip(answers, examples, strict=True)
    ]
    check = GoldCheck(reward)
    verdicts = check.are_right(claims)
    check.close()
    return verdicts


def num_updates(num_examples: int, settings: ColdStartConfig) -> int:
    return max(1, math.ceil(settings.epochs * num_examples / settings.batch_size))


def run_cold_start(
    policy: Policy, sequences: Sequence[TrainingSequence], pack: Packer, settings: ColdStartConfig,
    optimizer: OptimizerConfig, report: Callable[..., None],
) -> dict[int, str]:  # fmt: skip
    """Which sequences were left out, by index, and why: their prompts are too long.

    Trains the policy, num_updates of them; `report(loss=...)` after every update. UserError when none can be used.
    """
    updates = num_updates(len(sequences), settings)
    warmup = int(settings.warmup_share * updates)
    left_out: dict[int, str] = {}
    usable = _endlessly(sequences, left_out)
    size = min(settings.batch_size, len(sequences))
    policy.new_optimizer(optimizer)
    for update in range(updates):
        members = [next(usable) for _ in range(size)]
        metrics = policy.forward_backward(pack(with_token_weights(members, "token")), supervised_loss)
        policy.step(learning_rate(update, updates, settings.lr, warmup, settings.decay_share))
        report(loss=metrics["loss"])
    policy.drop_optimizer()
    return left_out


def _endlessly(sequences: Sequence[TrainingSequence], left_out: dict[int, str]) -> Iterator[TrainingSequence]:
    """The usable ones, over and over."""
    while len(left_out) < len(sequences):
        for index in range(len(sequences)):
            if index in left_out:
                continue
            try:
                sequence = sequences[index]
            except PromptTooLong as error:
                left_out[index] = str(error)
                continue
            yield sequence
    first = next(iter(left_out.values()), "the file is empty")
    raise UserError(f"the cold start has no example that can be used, of {len(sequences)}: {first}")

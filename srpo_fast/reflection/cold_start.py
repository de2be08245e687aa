"""Cold-start SFT on reflection records (paper eq 1)."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

from srpo_fast.batch import TrainingSequence
from srpo_fast.config import ColdStartConfig, OptimizerConfig, UserError
from srpo_fast.loss import supervised_loss, with_token_weights
from srpo_fast.packing import Packer
from srpo_fast.policy import Policy
from srpo_fast.prompts import PromptEncoder, PromptTooLong
from srpo_fast.reflection.teacher import ReflectionRecord
from srpo_fast.schedule import learning_rate


def training_sequence(
    record: ReflectionRecord, encoder: PromptEncoder, system_prompt: str, settings: ColdStartConfig
) -> TrainingSequence:
    """The record as tokens. The loss covers every completion token, or leaves a wrong first solution out."""
    prompt = encoder.encode(record.question, system_prompt)
    first = encoder.token_ids(record.first)
    rest = (*encoder.token_ids(record.completion.removeprefix(record.first)), encoder.eos_token_id)
    learns_first = record.first_correct or settings.first_answer_loss == "always"
    return TrainingSequence(
        prompt=prompt,
        completion_ids=(*first, *rest),
        loss_mask=(learns_first,) * len(first) + (True,) * len(rest),
        advantage=1.0,
        rollout_logprobs=(0.0,) * (len(first) + len(rest)),
        token_weight=0.0,
    )


def training_sequences(
    records: Sequence[ReflectionRecord], encoder: PromptEncoder, system_prompt: str, settings: ColdStartConfig
) -> list[TrainingSequence]:
    """The records in order; those whose prompt is too long under this system prompt are left out."""
    sequences = []
    for record in records:
        with suppress(PromptTooLong):
            sequences.append(training_sequence(record, encoder, system_prompt, settings))
    return sequences


def num_updates(num_records: int, settings: ColdStartConfig) -> int:
    return max(1, math.ceil(settings.epochs * num_records / settings.batch_size))


def run_cold_start(
    policy: Policy, sequences: Sequence[TrainingSequence], pack: Packer, settings: ColdStartConfig,
    optimizer: OptimizerConfig, report: Callable[..., None],
) -> None:  # fmt: skip
    """Trains the policy, num_updates of them; `report(loss=...)` after every update. UserError without a sequence."""
    if not sequences:
        raise UserError(
            "the cold start has no records: expected finished first answers that the teacher can reflect on, mixed as "
            "reflection.right_share says; raise reflection.prompts or reflection.max_tokens, or set right_share to null"
        )
    updates = num_updates(len(sequences), settings)
    warmup = int(settings.warmup_share * updates)
    size = min(settings.batch_size, len(sequences))
    policy.new_optimizer(optimizer)
    for update in range(updates):
        members = [sequences[(update * size + i) % len(sequences)] for i in range(size)]
        metrics = policy.forward_backward(pack(with_token_weights(members, "token")), supervised_loss)
        policy.step(learning_rate(update, updates, settings.lr, warmup, settings.decay_share))
        report(loss=metrics["loss"])
    policy.drop_optimizer()

"""Completions -> packed micro-batches under a token budget, balanced over data-parallel ranks by what they compute.

Every rank packs the same sequences in the same order and takes its own share, so no collective is needed. A micro-batch
never cuts a sequence; the loss does not depend on how sequences are grouped, because their token weights are global.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from srpo_fast.balance import Work, share_out
from srpo_fast.batch import MicroBatch, Prompt, TrainingSequence
from srpo_fast.flops import UpdateFlops
from srpo_fast.positions import continue_positions
from srpo_kernels import pack_sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """One data-parallel rank's share of an update."""

    micro_batches: tuple[MicroBatch, ...]  # at least one, the same number on every pipeline stage
    image_prompts: tuple[Prompt, ...]  # distinct prompts in the order of their rows in the image features


Packer = Callable[[Sequence[TrainingSequence]], PackedBatch]  # pack with everything but the sequences given


def pack(
    sequences: Sequence[TrainingSequence], *, tokens_per_micro_batch: int, dp: int, dp_rank: int, merge_size: int,
    image_token_id: int, flops: UpdateFlops,
) -> PackedBatch:  # fmt: skip
    """Raises ValueError when a sequence alone exceeds the token budget."""
    mine = share_of_rank(sequences, flops, dp=dp, dp_rank=dp_rank)
    lengths = torch.tensor([_num_tokens(s) for s in mine])
    bins = pack_sequences(lengths, tokens_per_micro_batch)
    first_rows, image_prompts = _feature_rows(mine, merge_size)
    micro_batches = []
    for number in range(int(bins.max()) + 1):
        members = [mine[i] for i in (bins == number).nonzero().flatten().tolist()]
        micro_batches.append(_concatenate(members, first_rows, image_token_id))
    return PackedBatch(micro_batches=tuple(micro_batches), image_prompts=image_prompts)


def share_of_rank(
    sequences: Sequence[TrainingSequence], flops: UpdateFlops, *, dp: int, dp_rank: int
) -> list[TrainingSequence]:
    """This rank's sequences, longest first.

    A rank left without work repeats the shortest sequence at weight 0, so that every rank joins every collective.
    """
    if not sequences:
        raise ValueError("an update needs at least one sequence")
    mine = share_out([_work(s, flops) for s in sequences], dp)[dp_rank]
    if not mine:
        return [replace(min(sequences, key=_num_tokens), advantage=0.0, token_weight=0.0)]
    return sorted((sequences[i] for i in sorted(mine)), key=_num_tokens, reverse=True)


def _work(sequence: TrainingSequence, flops: UpdateFlops) -> Work:
    prompt = sequence.prompt
    return Work(
        cost=flops.of_sequence(_num_tokens(sequence), sum(sequence.loss_mask)),
        prompt=prompt.question.id,
        prompt_cost=flops.of_images(prompt.image_grid_thw.prod(dim=1).tolist()),
    )


def _num_tokens(sequence: TrainingSequence) -> int:
    return len(sequence.prompt.token_ids) + len(sequence.completion_ids)


def _feature_rows(sequences: Sequence[TrainingSequence], merge_size: int) -> tuple[dict[str, int], tuple[Prompt, ...]]:
    """The first image-feature row of every distinct prompt, and those prompts in row order."""
    first_rows: dict[str, int] = {}
    prompts: list[Prompt] = []
    rows = 0
    for sequence in sequences:
        prompt = sequence.prompt
        if prompt.question.id in first_rows:
            continue
        first_rows[prompt.question.id] = rows
        prompts.append(prompt)
        rows += int(prompt.image_grid_thw.prod(dim=1).sum()) // merge_size**2
    return first_rows, tuple(prompts)


def _concatenate(members: list[TrainingSequence], first_rows: dict[str, int], image_token_id: int) -> MicroBatch:
    ids, positions, rows, image_rows, feature_rows = [], [], [], [], []
    start = 0
    for s in members:
        prompt, completion = s.prompt, torch.tensor(s.completion_ids)
        ids += [prompt.token_ids, completion]
        positions += [prompt.position_ids, continue_positions(prompt.position_ids, len(completion))]
        images = (prompt.token_ids == image_token_id).nonzero().flatten()
        image_rows.append(images + start)
        feature_rows.append(torch.arange(len(images)) + first_rows[s.prompt.question.id])
        # the row before a completion token predicts it
        rows.append(torch.tensor(s.loss_mask).nonzero().flatten() + (start + len(prompt.token_ids) - 1))
        start += len(prompt.token_ids) + len(completion)
    lengths = torch.tensor([_num_tokens(s) for s in members])
    row_counts = torch.tensor([sum(s.loss_mask) for s in members])
    input_ids, loss_rows = torch.cat(ids), torch.cat(rows)
    return MicroBatch(
        input_ids=input_ids,
        position_ids=torch.cat(positions, dim=1),
        cu_seqlens=_offsets(lengths),
        max_seqlen=int(lengths.max()),
        image_rows=torch.cat(image_rows),
        feature_rows=torch.cat(feature_rows),
        row_offsets=_offsets(row_counts),
        loss_rows=loss_rows,
        labels=input_ids[loss_rows + 1],
        advantages=_per_token([s.advantage for s in members], row_counts),
        rollout_logprobs=torch.cat([torch.tensor(s.rollout_logprobs)[torch.tensor(s.loss_mask)] for s in members]),
        token_weights=_per_token([s.token_weight for s in members], row_counts),
    )


def _per_token(values: list[float], row_counts: Tensor) -> Tensor:
    """One value a sequence -> one a loss token, fp32."""
    return torch.tensor(values, dtype=torch.float32).repeat_interleave(row_counts)


def _offsets(counts: Tensor) -> Tensor:
    """[S] -> [S + 1] int32: where each begins, and the end."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()

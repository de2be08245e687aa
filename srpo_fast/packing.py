"""Completions -> packed micro-batches under a token budget, balanced over data-parallel ranks by what they compute.

Every rank packs the same sequences in the same order and takes its own share, so no collective is needed. A micro-batch
never cuts a sequence; the loss does not depend on how sequences are grouped, because their token weights are global.

Completions of a prompt may share it: its tokens are computed once, and every completion attends to them. Rows that
predict a completion's first token are then the prompt's last row, once for each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from srpo_fast.balance import Work, share_out
from srpo_fast.batch import Keys, MicroBatch, Prompt, TrainingSequence
from srpo_fast.config import OptimizerConfig
from srpo_fast.flops import UpdateFlops
from srpo_fast.model_shape import read_shape
from srpo_fast.parallel import Parallel
from srpo_fast.positions import continue_positions
from srpo_fast.prompts import PromptEncoder
from srpo_kernels import pack_sequences

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """One data-parallel rank's share of an update."""

    micro_batches: tuple[MicroBatch, ...]  # at least one, the same number on every pipeline stage
    image_prompts: tuple[Prompt, ...]  # distinct prompts in the order of their rows in the image features


Packer = Callable[[Sequence[TrainingSequence]], PackedBatch]  # pack with everything but the sequences given


def make_packer(
    model_dir: Path, encoder: PromptEncoder, settings: OptimizerConfig, parallel: Parallel, *, train_vision: bool
) -> Packer:
    """`pack` for one rank of the training of one model."""
    return partial(
        pack, tokens_per_micro_batch=settings.tokens_per_micro_batch, dp=parallel.dp, dp_rank=parallel.dp_rank,
        merge_size=encoder.merge_size, image_token_id=encoder.image_token_id, share_prompts=settings.share_prompts,
        flops=UpdateFlops(shape=read_shape(model_dir / "config.json"), train_vision=train_vision),
    )  # fmt: skip


def pack(
    sequences: Sequence[TrainingSequence], *, tokens_per_micro_batch: int, dp: int, dp_rank: int, merge_size: int,
    image_token_id: int, flops: UpdateFlops, share_prompts: bool = False,
) -> PackedBatch:  # fmt: skip
    """Raises ValueError when a sequence alone exceeds the token budget."""
    mine = share_of_rank(sequences, flops, dp=dp, dp_rank=dp_rank, share_prompts=share_prompts)
    parts = _by_prompt(mine, tokens_per_micro_batch) if share_prompts else [[s] for s in mine]
    lengths = torch.tensor([_num_prompt_tokens(p[0]) + sum(len(s.completion_ids) for s in p) for p in parts])
    first_rows, image_prompts = _feature_rows(mine, merge_size)
    micro_batches = tuple(
        _concatenate(members, first_rows, image_token_id) for members in _bins(parts, lengths, tokens_per_micro_batch)
    )
    return PackedBatch(micro_batches=micro_batches, image_prompts=image_prompts)


def _bins(items: list[T], lengths: Tensor, budget: int) -> list[list[T]]:
    bins = pack_sequences(lengths, budget)
    return [[items[i] for i in (bins == n).nonzero().flatten().tolist()] for n in range(int(bins.max()) + 1)]


def _by_prompt(sequences: list[TrainingSequence], budget: int) -> list[list[TrainingSequence]]:
    """Sequences of the same prompt together, in as few parts as fit the budget with their prompt in front."""
    groups: dict[tuple[str, tuple[int, ...]], list[TrainingSequence]] = {}
    for s in sequences:
        groups.setdefault((s.prompt.question.id, tuple(s.prompt.token_ids.tolist())), []).append(s)
    parts = []
    for members in groups.values():
        lengths = torch.tensor([len(s.completion_ids) for s in members])
        room = budget - _num_prompt_tokens(members[0])
        # without room for one, the bins below say so
        parts += _bins(members, lengths, room) if room >= lengths.max() else [[s] for s in members]
    return parts


def share_of_rank(
    sequences: Sequence[TrainingSequence], flops: UpdateFlops, *, dp: int, dp_rank: int, share_prompts: bool = False
) -> list[TrainingSequence]:
    """This rank's sequences, longest first.

    A rank left without work repeats the shortest sequence at weight 0, so that every rank joins every collective.
    """
    if not sequences:
        raise ValueError("an update needs at least one sequence")
    mine = share_out([_work(s, flops, share_prompts) for s in sequences], dp)[dp_rank]
    if not mine:
        return [replace(min(sequences, key=_num_tokens), advantage=0.0, token_weight=0.0)]
    return sorted((sequences[i] for i in sorted(mine)), key=_num_tokens, reverse=True)


def _work(sequence: TrainingSequence, flops: UpdateFlops, share_prompts: bool) -> Work:
    prompt = sequence.prompt
    shared = flops.of_sequence(_num_prompt_tokens(sequence), 0) if share_prompts else 0.0
    return Work(
        cost=flops.of_sequence(_num_tokens(sequence), sum(sequence.loss_mask)) - shared,
        prompt=prompt.question.id,
        prompt_cost=flops.of_images(prompt.image_grid_thw.prod(dim=1).tolist()) + shared,
    )


def _num_tokens(sequence: TrainingSequence) -> int:
    return _num_prompt_tokens(sequence) + len(sequence.completion_ids)


def _num_prompt_tokens(sequence: TrainingSequence) -> int:
    return len(sequence.prompt.token_ids)


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


def _concatenate(parts: list[list[TrainingSequence]], first_rows: dict[str, int], image_token_id: int) -> MicroBatch:
    """Parts one after the other, each its prompt and its sequences' completions; the first goes on with the prompt."""
    ids, positions, rows, labels, keys, image_rows, feature_rows = [], [], [], [], [], [], []
    start = 0
    for part in parts:
        prompt = part[0].prompt
        ids.append(prompt.token_ids)
        positions.append(prompt.position_ids)
        images = (prompt.token_ids == image_token_id).nonzero().flatten()
        image_rows.append(images + start)
        feature_rows.append(torch.arange(len(images)) + first_rows[prompt.question.id])
        of_prompt = torch.arange(start, start + len(prompt.token_ids))
        start += len(of_prompt)
        for s in part:
            completion, kept = torch.tensor(s.completion_ids), torch.tensor(s.loss_mask)
            own = torch.arange(start, start + len(completion))
            ids.append(completion)
            positions.append(continue_positions(prompt.position_ids, len(completion)))
            # the row before a completion token predicts it
            rows.append(torch.cat([of_prompt[-1:], own[:-1]])[kept])
            labels.append(completion[kept])
            keys.append(torch.cat([of_prompt, own]))
            start += len(own)
    members = [s for part in parts for s in part]
    row_counts = torch.tensor([sum(s.loss_mask) for s in members])
    # the first of a part brings its prompt's rows along
    lengths = torch.tensor(
        [len(s.completion_ids) if number else _num_tokens(s) for part in parts for number, s in enumerate(part)]
    )
    return MicroBatch(
        input_ids=torch.cat(ids),
        position_ids=torch.cat(positions, dim=1),
        cu_seqlens=offsets(lengths),
        max_seqlen=int(lengths.max()),
        image_rows=torch.cat(image_rows),
        feature_rows=torch.cat(feature_rows),
        row_offsets=offsets(row_counts),
        loss_rows=torch.cat(rows),
        labels=torch.cat(labels),
        advantages=_per_token([s.advantage for s in members], row_counts),
        rollout_logprobs=torch.cat([torch.tensor(s.rollout_logprobs)[torch.tensor(s.loss_mask)] for s in members]),
        token_weights=_per_token([s.token_weight for s in members], row_counts),
        is_fresh=_is_fresh(members),
        keys=_keys(keys) if len(members) > len(parts) else None,
    )


def _is_fresh(members: list[TrainingSequence]) -> Tensor | None:
    if not any(s.older_tokens for s in members):
        return None
    return torch.cat([(torch.arange(len(s.loss_mask)) >= s.older_tokens)[torch.tensor(s.loss_mask)] for s in members])


def _keys(rows: list[Tensor]) -> Keys:
    lengths = torch.tensor([len(r) for r in rows])
    return Keys(rows=torch.cat(rows), cu_seqlens=offsets(lengths), max_seqlen=int(lengths.max()))


def _per_token(values: list[float], row_counts: Tensor) -> Tensor:
    """One value a sequence -> one a loss token, fp32."""
    return torch.tensor(values, dtype=torch.float32).repeat_interleave(row_counts)


def offsets(counts: Tensor) -> Tensor:
    """[S] -> [S + 1] int32: where each begins, and the end."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()

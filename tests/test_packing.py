"""Packed rows by hand, and shares that lose nothing."""

import random
from dataclasses import replace

import pytest
import torch

from srpo_fast.batch import Prompt, Question, TrainingSequence
from srpo_fast.flops import UpdateFlops
from srpo_fast.model_shape import PUBLISHED
from srpo_fast.packing import PackedBatch, pack, share_of_rank

IMAGE = 9  # the image token
FLOPS = UpdateFlops(shape=PUBLISHED["7b"], train_vision=False)


def make_prompt(name: str, token_ids: list[int], positions: list[list[int]], *grids: tuple[int, int, int]) -> Prompt:
    grid = torch.tensor(grids).reshape(-1, 3)
    return Prompt(
        question=Question(id=name, text="", images=(), answer=""),
        engine_token_ids=(),
        token_ids=torch.tensor(token_ids),
        position_ids=torch.tensor(positions),
        pixel_values=torch.zeros(int(grid.prod(1).sum()), 8),
        image_grid_thw=grid,
    )


def make_text_prompt(name: str, length: int) -> Prompt:
    return make_prompt(name, list(range(10, 10 + length)), [list(range(length))] * 3)


def make_sequence(prompt: Prompt, *completion: int, **changes) -> TrainingSequence:
    sequence = TrainingSequence(
        prompt=prompt,
        completion_ids=completion,
        loss_mask=(True,) * len(completion),
        advantage=1.0,
        rollout_logprobs=tuple(-float(i) for i in completion),
        token_weight=0.25,
    )
    return replace(sequence, **changes)


# two merged patches between two words; one merged patch before a word
WIDE = make_prompt("wide", [1, IMAGE, IMAGE, 2], [[0, 1, 1, 3], [0, 1, 1, 3], [0, 1, 2, 3]], (1, 2, 4))
SMALL = make_prompt("small", [IMAGE, 3], [[0, 1], [0, 1], [0, 1]], (1, 2, 2))
PAIR = [
    make_sequence(SMALL, 7, advantage=-2.0, token_weight=0.5),
    make_sequence(WIDE, 5, 6, loss_mask=(True, False)),
]


def pack_whole(
    sequences: list[TrainingSequence], budget: int = 64, dp: int = 1, dp_rank: int = 0, share_prompts: bool = False
) -> PackedBatch:
    return pack(
        sequences, tokens_per_micro_batch=budget, dp=dp, dp_rank=dp_rank, merge_size=2, image_token_id=IMAGE,
        flops=FLOPS, share_prompts=share_prompts,
    )  # fmt: skip


def test_two_sequences_with_images_packed_by_hand():
    batch = pack_whole(PAIR, budget=9)
    (row,) = batch.micro_batches
    assert row.input_ids.tolist() == [1, IMAGE, IMAGE, 2, 5, 6, IMAGE, 3, 7]
    assert row.position_ids.tolist() == [
        [0, 1, 1, 3, 4, 5, 0, 1, 2],
        [0, 1, 1, 3, 4, 5, 0, 1, 2],
        [0, 1, 2, 3, 4, 5, 0, 1, 2],
    ]
    assert row.cu_seqlens.tolist() == [0, 6, 9]
    assert row.cu_seqlens.dtype == torch.int32
    assert row.max_seqlen == 6
    assert row.input_ids.numel() == 9
    assert row.image_rows.tolist() == [1, 2, 6]
    assert row.feature_rows.tolist() == [0, 1, 2]
    assert [prompt.question.id for prompt in batch.image_prompts] == ["wide", "small"]
    # the last prompt token predicts the first of the completion; the 6 is masked
    assert row.loss_rows.tolist() == [3, 7]
    assert row.row_offsets.tolist() == [0, 1, 2]
    assert row.labels.tolist() == [5, 7]
    assert row.advantages.tolist() == [1.0, -2.0]
    assert row.rollout_logprobs.tolist() == [-5.0, -7.0]
    assert row.token_weights.tolist() == [0.25, 0.5]
    assert row.advantages.dtype == row.rollout_logprobs.dtype == row.token_weights.dtype == torch.float32


def test_row_offsets_tell_sequences_apart_also_those_without_loss_rows():
    lone = make_text_prompt("lone", 1)
    sequences = [
        make_sequence(lone, 5, 6, 7, 8, loss_mask=(True, True, False, True)),
        make_sequence(lone, 5, 6, 7, loss_mask=(False, False, False)),
        make_sequence(lone, 5, 6),
    ]
    (row,) = pack_whole(sequences).micro_batches
    assert row.row_offsets.tolist() == [0, 3, 3, 5]
    assert row.row_offsets.dtype == torch.int32
    assert len(row.labels) == 5


def test_a_tight_budget_makes_more_micro_batches_of_the_same_rows():
    batch = pack_whole(PAIR, budget=6)
    wide, small = batch.micro_batches
    assert (wide.cu_seqlens.tolist(), small.cu_seqlens.tolist()) == ([0, 6], [0, 3])
    assert small.input_ids.tolist() == [IMAGE, 3, 7]
    assert small.loss_rows.tolist() == [1]
    assert small.image_rows.tolist() == [0]
    assert small.feature_rows.tolist() == [2]  # counted over the whole update, whose images are encoded once


def test_completions_of_one_prompt_share_its_image_features():
    group = [make_sequence(WIDE, 5), make_sequence(SMALL, 5), make_sequence(WIDE, 6), make_sequence(WIDE, 7)]
    batch = pack_whole(group)
    assert [prompt.question.id for prompt in batch.image_prompts] == ["wide", "small"]
    assert batch.micro_batches[0].feature_rows.tolist() == [0, 1, 0, 1, 0, 1, 2]


def test_prompts_without_images_need_no_features():
    batch = pack_whole([make_sequence(make_text_prompt("a", 3), 1, 2), make_sequence(SMALL, 4)])
    (row,) = batch.micro_batches
    assert row.image_rows.tolist() == [5]
    assert row.feature_rows.tolist() == [0]


def test_completions_that_share_their_prompt_packed_by_hand():
    group = [
        make_sequence(WIDE, 5, 6, 7, loss_mask=(True, False, True)),
        make_sequence(SMALL, 8),
        make_sequence(WIDE, 8, 9, advantage=-1.0),
    ]
    batch = pack_whole(group, share_prompts=True)
    (row,) = batch.micro_batches
    assert row.input_ids.tolist() == [1, IMAGE, IMAGE, 2, 5, 6, 7, 8, 9, IMAGE, 3, 8]
    # both completions go on after the prompt's last position
    assert row.position_ids[0].tolist() == [0, 1, 1, 3, 4, 5, 6, 4, 5, 0, 1, 2]
    assert (row.cu_seqlens.tolist(), row.max_seqlen) == ([0, 7, 9, 12], 7)
    assert row.keys.rows.tolist() == [*range(7), 0, 1, 2, 3, 7, 8, 9, 10, 11]
    assert (row.keys.cu_seqlens.tolist(), row.keys.max_seqlen) == ([0, 7, 13, 16], 7)
    assert row.keys.cu_seqlens.dtype == torch.int32
    assert row.image_rows.tolist() == [1, 2, 9]
    # the prompt's last row predicts the first token of both
    assert row.loss_rows.tolist() == [3, 5, 3, 7, 10]
    assert row.labels.tolist() == [5, 7, 8, 9, 8]
    assert row.row_offsets.tolist() == [0, 2, 4, 5]
    assert row.advantages.tolist() == [1.0, 1.0, -1.0, -1.0, 1.0]


def test_sequences_that_have_a_prompt_to_themselves_are_packed_as_ever():
    shared, plain = (pack_whole(PAIR, share_prompts=share).micro_batches[0] for share in (True, False))
    assert shared.keys is None
    assert shared.input_ids.tolist() == plain.input_ids.tolist()
    assert shared.loss_rows.tolist() == plain.loss_rows.tolist()


def test_a_group_beyond_the_budget_shares_its_prompt_in_parts():
    prompt = make_text_prompt("p", 10)
    group = [make_sequence(prompt, *[number] * 5) for number in range(1, 7)]
    batch = pack_whole(group, budget=22, share_prompts=True)
    assert [len(row.input_ids) for row in batch.micro_batches] == [20, 20, 20]
    assert sorted(label for row in batch.micro_batches for label in row.labels.tolist()) == sorted([*range(1, 7)] * 5)
    with pytest.raises(ValueError, match=r"has 15 tokens, expected 1 to 14"):
        pack_whole(group, budget=14, share_prompts=True)


def test_shared_prompts_are_computed_once_a_rank():
    prompts = [make_text_prompt(str(number), 20) for number in range(6)]
    sequences = [make_sequence(prompt, *range(1, 9)) for prompt in prompts for _ in range(4)]
    tokens = [
        sum(len(row.input_ids) for rank in range(2) for row in pack_whole(sequences, 104, 2, rank, share).micro_batches)
        for share in (False, True)
    ]
    assert tokens == [6 * 4 * (20 + 8), 6 * (20 + 4 * 8)]


def test_a_sequence_longer_than_the_budget_is_a_clear_error():
    with pytest.raises(ValueError, match=r"has 6 tokens, expected 1 to 5.*raise the token budget"):
        pack_whole(PAIR, budget=5)


def test_an_update_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one sequence"):
        pack_whole([])


MANY = [make_sequence(make_text_prompt(str(i), 1 + i * 7 % 11), *range(1, 2 + i * 5 % 13)) for i in range(23)]


def length_of(sequence: TrainingSequence) -> int:
    return len(sequence.prompt.token_ids) + len(sequence.completion_ids)


@pytest.mark.parametrize("dp", [1, 2, 3, 8])
def test_the_ranks_shares_are_a_balanced_partition(dp):
    shares = [share_of_rank(MANY, FLOPS, dp=dp, dp_rank=rank) for rank in range(dp)]
    assert sorted(s.prompt.question.id for share in shares for s in share) == sorted(s.prompt.question.id for s in MANY)
    loads = [sum(map(length_of, share)) for share in shares]
    assert max(loads) - min(loads) <= max(map(length_of, MANY))


@pytest.mark.parametrize("dp", [1, 3])
def test_every_loss_token_of_every_sequence_is_in_exactly_one_micro_batch(dp):
    packed = [pack_whole(MANY, budget=40, dp=dp, dp_rank=rank) for rank in range(dp)]
    rows = [row for batch in packed for row in batch.micro_batches]
    assert all(row.input_ids.numel() <= 40 for row in rows)
    labels = sorted(label for row in rows for label in row.labels.tolist())
    assert labels == sorted(token for s in MANY for token in s.completion_ids)


def test_a_rank_without_work_repeats_the_shortest_sequence_at_no_weight():
    (idle,) = share_of_rank(PAIR, FLOPS, dp=3, dp_rank=2)
    assert idle.prompt is SMALL
    assert (idle.token_weight, idle.advantage) == (0.0, 0.0)
    (row,) = pack_whole(PAIR, dp=3, dp_rank=2).micro_batches
    assert row.token_weights.tolist() == [0.0]


def long_tailed(prompts: int, group: int) -> list[TrainingSequence]:
    """Prompts with images of many sizes; most completions are short, some at a limit of 2,048 tokens."""
    chance, sequences = random.Random(0), []
    for number in range(prompts):
        side = 2 * chance.randint(4, 30)  # patches
        length = side**2 // 4 + chance.randint(30, 300)
        prompt = make_prompt(str(number), [0] * length, [[0] * length] * 3, (1, side, side))
        for _ in range(group):
            tokens = int(min(2048, max(20, chance.lognormvariate(5.5, 1.2))))
            sequences.append(make_sequence(prompt, *[1] * tokens))
    return sequences


def flops_of(share: list[TrainingSequence], flops: UpdateFlops, share_prompts: bool = False) -> float:
    prompts = {s.prompt.question.id: s.prompt for s in share}
    needed = sum(flops.of_images(p.image_grid_thw.prod(1).tolist()) for p in prompts.values())
    needed += sum(flops.of_sequence(length_of(s), len(s.completion_ids)) for s in share)
    if share_prompts:
        needed -= sum(flops.of_sequence(len(s.prompt.token_ids), 0) for s in share)
        needed += sum(flops.of_sequence(len(p.token_ids), 0) for p in prompts.values())
    return needed


def balanced_by_tokens(sequences: list[TrainingSequence], dp: int) -> list[list[TrainingSequence]]:
    shares: list[list[TrainingSequence]] = [[] for _ in range(dp)]
    for sequence in sorted(sequences, key=length_of, reverse=True):
        min(shares, key=lambda share: sum(map(length_of, share))).append(sequence)
    return shares


@pytest.mark.parametrize("train_vision", [False, True])
@pytest.mark.parametrize(("prompts", "dp", "most"), [(64, 8, 1.01), (24, 8, 1.02), (4, 8, 1.12)])
def test_the_busiest_rank_computes_little_more_than_the_mean(prompts, dp, most, train_vision):
    flops, sequences = replace(FLOPS, train_vision=train_vision), long_tailed(prompts, 8)
    shares = [share_of_rank(sequences, flops, dp=dp, dp_rank=rank) for rank in range(dp)]
    busiest = max(flops_of(share, flops) for share in shares)
    assert busiest < most * flops_of(sequences, flops) / dp  # a mean in which no image is encoded twice
    assert busiest < max(flops_of(share, flops) for share in balanced_by_tokens(sequences, dp))


def test_ranks_are_balanced_by_what_is_left_when_prompts_are_shared():
    sequences = long_tailed(64, 8)
    shares = [share_of_rank(sequences, FLOPS, dp=8, dp_rank=rank, share_prompts=True) for rank in range(8)]
    mean = flops_of(sequences, FLOPS, share_prompts=True) / 8
    assert max(flops_of(share, FLOPS, share_prompts=True) for share in shares) < 1.02 * mean
    assert mean < 0.7 * flops_of(sequences, FLOPS) / 8


def test_ranks_that_have_many_prompts_encode_every_image_once():
    shares = [share_of_rank(long_tailed(64, 8), FLOPS, dp=4, dp_rank=rank) for rank in range(4)]
    prompts = [name for share in shares for name in {s.prompt.question.id for s in share}]
    assert len(prompts) == len(set(prompts)) == 64

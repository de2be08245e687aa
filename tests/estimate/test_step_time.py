"""Operations and seconds, worked out by hand, and what they answer to."""

import pytest

from srpo_fast import flops
from srpo_fast.estimate import parameters
from srpo_fast.estimate.rates import all_reduce, bandwidth
from srpo_fast.estimate.rollout_time import decode_steps
from srpo_fast.estimate.step_time import step_time, sync
from srpo_fast.estimate.update_time import attention_of_rank, passes, required_flops
from srpo_fast.model_shape import PUBLISHED
from tests.estimate.conftest import TINY


def test_operations_worked_out_by_hand():
    # a layer's products: q and o 8x8, k and v 8x4, MLP 3x8x16
    assert flops.products_a_token(TINY.text) == 2 * 2 * (64 + 64 + 32 + 32 + 384)
    assert flops.causal_attention(TINY.text, 10) == 2 * (4 * 8 * 10**2) / 2
    assert flops.head_a_row(TINY.text) == 2 * 32 * 8
    # 16 patches of 1176 values, a block of full attention, 4 tokens through the merger
    block = 2 * 16 * (4 * 16 + 3 * 4 * 6) + 4 * 4 * 16**2
    assert flops.vision_of_image(TINY.vision, 16) == 2 * 16 * 1176 * 4 + block + 2 * 4 * (16 * 16 + 16 * 8)


def test_a_merged_image_token_costs_what_the_survey_derived():
    vision = PUBLISHED["7b"].vision
    a_token = flops.vision_of_image(vision, 4 * 300) / 300
    # 5.1 GFLOP by its parameters alone; attention adds to that
    assert 5.1e9 < a_token < 5.9e9


def test_windows_bound_the_attention_of_large_images():
    vision = PUBLISHED["7b"].vision
    small, large = (flops.vision_of_image(vision, patches) / patches for patches in (64, 2560))
    full_layers = 4 * 4 * 1280 * (2560 - 64)
    assert large - small == pytest.approx(full_layers, rel=1e-9)


def test_the_update_needs_six_operations_a_weight_and_token(tiny_job):
    job = tiny_job()
    completions, length, rows, attention = 32, 4 + 12, 12, 2 * 4 * 8 * 16**2 / 2
    sequence = length * 2 * 2 * 576 + attention + rows * 2 * 256
    images = 4 * flops.vision_of_image(TINY.vision, 2 * 4)
    assert required_flops(job) == 3 * completions * sequence + images


def test_shared_prompts_are_computed_once_a_group(tiny_job):
    job, shared = tiny_job(), tiny_job("optimizer.share_prompts=true")
    prompts, completions, prompt, completion = 4, 32, 4, 12
    assert job.trained_tokens == completions * (prompt + completion)
    assert shared.trained_tokens == prompts * prompt + completions * completion
    assert shared.trained_rows == job.trained_rows == completions * completion
    assert shared.keys_a_token == job.trained_tokens / shared.trained_tokens
    products, attention = 2 * 2 * 576, 2 * 4 * 8 / 2
    saved = (completions - prompts) * (prompt * products + attention * prompt**2)
    assert required_flops(job) - required_flops(shared) == 3 * saved
    assert attention_of_rank(job) - attention_of_rank(shared) == (completions - prompts) * attention * prompt**2


def test_recomputation_takes_time_and_counts_for_nothing(real_job):
    none, selective, full = (real_job("7b", recompute=mode) for mode in ("none", "selective", "full"))
    assert passes(none) < passes(selective) < passes(full) < 1.34 * passes(none)
    assert step_time(full).update_flops == step_time(none).update_flops
    assert step_time(full).update_mfu < step_time(none).update_mfu


def test_nothing_beats_the_roofline(real_job):
    job = real_job("7b")
    ideal = step_time(real_job("7b", assumptions=job.assumptions.at_the_roofline()))
    expected = step_time(job)
    assert all(a.seconds <= b.seconds for a, b in zip(ideal.parts, expected.parts, strict=True))
    assert ideal.update_mfu < 1


def test_more_gpus_take_less_time_and_a_faster_memory_decodes_faster(real_job):
    assert step_time(real_job("7b", gpus=16)).seconds < step_time(real_job("7b")).seconds
    h100, h200 = (step_time(real_job("7b", gpu=gpu)) for gpu in ("h100", "h200"))
    assert h200.of("rollout") < h100.of("rollout")


def test_a_pipeline_waits_for_its_first_and_last_micro_batch(real_job):
    job = real_job("7b", "parallel.pp=2")
    bubble = next(p.seconds for p in step_time(job).parts if p.name == "pipeline bubble")
    assert bubble == pytest.approx(passes(job) / job.micro_batches)
    assert not [p for p in step_time(real_job("7b")).parts if p.name == "pipeline bubble"]


def test_decoding_ends_with_the_longest_completion(real_job):
    assert decode_steps(real_job("7b")) == 2048  # 256 completions an engine, all at once
    # in two halves: the second starts when the first's mean is done
    assert decode_steps(real_job("7b", "rollout.max_num_seqs=128")) == 1024 + 2048


def test_a_ring_sends_nearly_twice_the_bytes_and_slower_between_machines(real_job):
    job = real_job("7b")
    assert all_reduce(job, 1e9, 4, 8) == pytest.approx(1.5e9 / (450e9 * 0.75))
    assert all_reduce(job, 1e9, 4, 32) == pytest.approx(1.5e9 / (50e9 * 0.75))
    assert all_reduce(job, 1e9, 1, 1) == 0


def test_a_sync_moves_a_shard_once_or_nothing(real_job):
    copied, shared = real_job("7b"), real_job("7b", "rollout.weights=alias")
    engine = parameters.of_engine(copied.shape.text, copied.layout) * 2
    assert sync(copied).seconds == pytest.approx(2 * engine / bandwidth(copied))  # read and written
    assert sync(shared).seconds == 0
    assert sync(real_job("7b", "rollout.weights=alias", "parallel.pp=2")).limit == "links"

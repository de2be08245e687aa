"""Bytes on a rank, worked out by hand, and how they answer to the config."""

import pytest

from srpo_fast.estimate import kv_cache, memory, parameters
from srpo_fast.estimate.host_memory import on_machine
from srpo_fast.estimate.knobs import spare_gib
from srpo_fast.estimate.layout import Layout
from srpo_fast.estimate.memory import GIB, phases_of_stage, resident, worst_phases
from srpo_fast.estimate.update_time import update
from srpo_fast.policy.language_model import layers_of_stages
from srpo_fast.policy.vision import PATCHES_PER_PASS


def parts_of(job, phase: str, stage: int = 0) -> dict[str, float]:
    return dict(next(p for p in phases_of_stage(job, stage) if p.phase == phase).parts)


def total_of(job, phase: str) -> float:
    return next(p.total for p in worst_phases(job) if p.phase == phase)


def test_what_stays_worked_out_by_hand(tiny_job):
    text, tower = 2 * 608 + 520, 5292
    assert resident(tiny_job(), 0) == {
        "policy weights": 2 * text, "vision tower": 2 * tower, "gradients": 4 * text, "optimizer": 12 * text,
        "engine weights": 2 * text, "KV cache": 0.5 * GIB,
    }  # fmt: skip


def test_an_engine_that_shares_the_policys_weights_has_none_of_its_own(tiny_job):
    assert "engine weights" not in parts_of(tiny_job("rollout.weights=alias"), "rollout")
    stages = tiny_job("rollout.weights=alias", "parallel.pp=2", gpus=2)
    for stage in (0, 1):
        parts = resident(stages, stage)
        assert parts["engine weights"] == 2 * (2 * 608 + 520) - parts["policy weights"]


def test_fp32_weights_are_their_own_masters(tiny_job):
    job = tiny_job("model.dtype=float32")
    count = parameters.text_total(job.shape.text)
    assert resident(job, 0)["policy weights"] == 4 * count
    assert resident(job, 0)["optimizer"] == 8 * count


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        (["optimizer.master_weights=remainder"], 10),
        (["optimizer.moments=bfloat16"], 8),
        (["optimizer.master_weights=remainder", "optimizer.moments=bfloat16"], 6),
        (["model.dtype=float32", "optimizer.moments=bfloat16"], 4),
    ],
)
def test_an_economical_optimizer_is_counted_where_it_is_kept(tiny_job, overrides, size):
    state = size * (2 * 608 + 520)
    here, away = tiny_job(*overrides), tiny_job(*overrides, "optimizer.offload=true")
    assert resident(here, 0)["optimizer"] == state
    assert resident(away, 0)["optimizer"] == 0
    assert "optimizer state" not in on_machine(here)
    assert on_machine(away)["optimizer state"] == state
    assert "state from host" not in {part.name for part in update(here)}
    (came,) = (part for part in update(away) if part.name == "state from host")
    assert came.seconds == pytest.approx(state / (63e9 * 0.75))


def test_an_economical_step_works_in_slices(real_job):
    plain, small = real_job("7b"), real_job("7b", "optimizer.master_weights=remainder")
    text = plain.shape.text
    assert memory.optimizer_step(plain, 0) == 4 * memory.trained_parameters(plain, 0)
    assert memory.optimizer_step(small, 0) == 4 * parameters.embedding(text) / 2  # the gradient that is clipped


def test_a_checkpoint_passes_through_the_host(tiny_job):
    count = 2 * 608 + 520
    assert on_machine(tiny_job(gpus=4))["checkpoint being saved"] == (2 + 12) * count
    shared = on_machine(tiny_job(gpus=4, distributed_optimizer=True))["checkpoint being saved"]
    assert shared == (2 + 20) * count + 4 * 12 * count / 4


def test_data_parallel_ranks_share_the_optimizer_only_where_it_is_distributed(tiny_job):
    alone, among_four = tiny_job(), tiny_job(gpus=4, distributed_optimizer=True)
    assert resident(tiny_job(gpus=4), 0)["optimizer"] == resident(alone, 0)["optimizer"]
    assert resident(among_four, 0)["optimizer"] == resident(alone, 0)["optimizer"] / 4
    assert memory.optimizer_step(among_four, 0) == memory.optimizer_step(alone, 0) / 4


def test_stages_hold_what_is_theirs(tiny_job):
    job = tiny_job("parallel.pp=2", gpus=2)
    first, last = resident(job, 0), resident(job, 1)
    assert first["policy weights"] == 2 * (608 + 256)
    assert last["policy weights"] == 2 * (608 + 256 + 8)  # the head is as large as the embedding; the last norm
    assert first["vision tower"] == last["vision tower"]  # each encodes for its engine
    assert first["engine weights"] == last["engine weights"] == resident(tiny_job(), 0)["engine weights"]
    assert "logits" not in parts_of(job, "fwd+bwd", 0)
    assert "logits" in parts_of(job, "fwd+bwd", 1)
    assert "image features" not in parts_of(job, "images", 1)


def test_early_stages_keep_more_micro_batches(tiny_job):
    job = tiny_job("parallel.pp=2", "data.prompts_per_step=64", gpus=2)
    kept = [parts_of(job, "fwd+bwd", stage)["activations"] for stage in (0, 1)]
    assert kept[0] == 2 * kept[1]


@pytest.mark.parametrize("size", ["7b", "32b"])
@pytest.mark.parametrize("phase", memory.PHASES)
def test_more_tensor_parallelism_never_needs_more(real_job, size, phase):
    needs = [total_of(real_job(size, f"parallel.tp={tp}"), phase) for tp in (1, 2, 4)]
    assert needs == sorted(needs, reverse=True)


def test_each_remedy_frees_memory_where_it_should(real_job):
    job = real_job("7b")
    passes = total_of(job, "fwd+bwd")
    for remedy in ({"recompute": "selective"}, {"recompute": "full"}, {"sequence_parallel": True}):
        assert total_of(real_job("7b", **remedy), "fwd+bwd") < passes
    assert total_of(real_job("7b", "optimizer.tokens_per_micro_batch=4096"), "fwd+bwd") < passes
    smaller = real_job("7b", "rollout.kv_cache_gib=8")
    assert all(a.total - b.total == 8 * GIB for a, b in zip(worst_phases(job), worst_phases(smaller), strict=True))
    assert spare_gib(smaller) == pytest.approx(spare_gib(job) + 8)


def test_a_cache_that_sleeps_makes_room_for_what_the_policy_trains_with_and_for_nothing_else(tiny_job):
    resident, sleeps = (phases_of_stage(tiny_job(f"rollout.kv_cache={how}"), 0) for how in ("resident", "sleeps"))
    made = {a.phase: a.total - b.total for a, b in zip(resident, sleeps, strict=True)}
    # a run that resumes syncs before its engine slept, and a step may be saved after a validation has woken it
    room = dict.fromkeys(("images", "fwd+bwd", "step"), 0.5 * GIB)
    assert made == dict.fromkeys(("rollout", "sync", "save"), 0.0) | room
    assert "KV cache" not in parts_of(tiny_job("rollout.kv_cache=sleeps"), "fwd+bwd")


def test_images_need_memory_by_their_size(real_job):
    small, large = (total_of(real_job("7b", f"data.max_pixels={pixels}"), "images") for pixels in (50_176, 501_760))
    assert small < large
    # a patch at 1280 columns in bf16: 5 x 2 + 8 + 16 bytes a column, 1176 pixel values, a head's cos and sin
    assert memory.vision_pass_a_patch(real_job("7b").shape.vision, 2) == 34 * 1280 + 2 * 1176 + 8 * 80


def test_the_cache_holds_tokens_of_all_layers(real_job):
    job = real_job("7b", "parallel.tp=2", "rollout.kv_cache_gib=16")
    assert kv_cache.bytes_a_token(job) == 2 * 28 * 512 / 2 * 2
    assert kv_cache.tokens(job) == 16 * GIB / 28_672
    assert kv_cache.concurrency(job) == 256  # 128 x 8 completions over 4 engines
    assert kv_cache.concurrency(real_job("7b", "rollout.kv_cache_gib=1")) < 20


def test_reference_weights_are_on_the_host_only_under_a_kl_term(tiny_job):
    assert "reference weights" not in on_machine(tiny_job())
    # and the policy's beside them while they are swapped in
    assert on_machine(tiny_job(kl=True))["reference weights"] == 2 * 2 * (2 * 608 + 520)


def test_images_pass_through_the_tower_in_shares_of_bounded_size(real_job):
    vision = real_job("7b").shape.vision
    a_patch = memory.vision_pass_a_patch(vision, 2)
    many = real_job("7b", "data.prompts_per_step=512", "parallel.tp=2")
    assert parts_of(many, "images")["work space"] == PATCHES_PER_PASS * a_patch
    few = real_job("7b", "data.prompts_per_step=8", "parallel.tp=4")  # 8 prompts of 2,560 patches over 4 ranks
    prompts = 8 * (1 - 0.5**8)
    assert parts_of(few, "images")["work space"] == pytest.approx(prompts * 2560 / 4 * a_patch)


def test_a_trained_tower_needs_more_a_patch_and_lets_a_large_image_through(real_job):
    vision = real_job("7b").shape.vision
    # the inputs of 32 blocks; of one block 11 D + 4 F in bf16 and 8 D; what its forward pass needs
    a_patch = 32 * 2 * 1280 + (2 * (11 * 1280 + 4 * 3420) + 8 * 1280) + memory.vision_pass_a_patch(vision, 2)
    assert memory.trained_pass_a_patch(vision, 2) == a_patch
    trained = real_job("7b", "model.train_vision=true", "data.prompts_per_step=512")
    assert parts_of(trained, "images")["work space"] == PATCHES_PER_PASS * a_patch < 3.0 * GIB
    # an image that is larger than a pass goes through by itself
    large = real_job(
        "7b",
        "model.train_vision=true",
        "data.max_prompt_tokens=16384",
        "data.max_pixels=9633792",
        "optimizer.tokens_per_micro_batch=32768",
        "data.prompts_per_step=512",
    )
    assert parts_of(large, "images")["work space"] == 4 * 12288 * a_patch


def test_a_trained_tower_has_gradients_and_optimizer(real_job):
    frozen, trained = real_job("7b"), real_job("7b", "model.train_vision=true")
    tower = parameters.vision_total(frozen.shape.vision)
    more = {name: resident(trained, 0)[name] - resident(frozen, 0)[name] for name in ("gradients", "optimizer")}
    assert more == {"gradients": 4 * tower, "optimizer": 12 * tower}


def test_what_is_said_of_the_policy_is_what_the_policy_does(real_job):
    assert memory.PATCHES_PER_PASS == PATCHES_PER_PASS
    for layers, pp, chunks in ((28, 3, 1), (28, 8, 1), (64, 3, 2), (36, 4, 2)):
        layout = Layout(gpus=pp, tp=1, pp=pp, layers=layers, chunks=chunks)
        by_chunk = layers_of_stages(layers, pp * chunks)
        assert [layout.layers_of(stage) for stage in range(pp)] == [sum(by_chunk[stage::pp]) for stage in range(pp)]

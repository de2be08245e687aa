"""The vision tower: once per prompt, shared by ranks, frozen unless it is trained."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed

from srpo_fast.config import LossConfig
from srpo_fast.estimate.memory import made_in_block
from srpo_fast.loss import objective_of, srpo_loss
from srpo_fast.model_shape import find_shape
from srpo_fast.policy import Policy, attention, vision
from srpo_fast.policy.attention import flash_windows
from srpo_fast.policy.hf_directory import HFDirectory
from srpo_fast.policy.name_map import canonical
from srpo_fast.policy.sharded_state import read_sharded, write_sharded
from srpo_fast.policy.vision import share_images
from tests.policy_case import OPTIMIZER, QUESTIONS, gradients_of, make_sequences, open_policy, packer

SRPO = srpo_loss(objective_of(LossConfig()))


@pytest.fixture
def trained(one_process, untrained_model) -> Policy:
    """A policy whose tower is trained."""
    policy = open_policy(untrained_model, one_process, train_vision=True)
    policy.new_optimizer(OPTIMIZER)
    return policy


@pytest.fixture(scope="module")
def batch(one_process, untrained_model):
    return packer(untrained_model, one_process, 120)(make_sequences(untrained_model))


def updated_weights(policy: Policy, batch) -> dict[str, torch.Tensor]:
    policy.forward_backward(batch, SRPO)
    policy.step(1e-3)
    return {name: tensor.clone() for name, tensor in policy.hf_weights()}


def images_of(sizes: list[int]) -> list[vision._Image]:
    return [
        vision._Image(pixel_values=torch.empty(size, 0), grid=torch.tensor([1, 1, size]), rows=torch.tensor([number]))
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_share_every_image_once_in_order_and_evenly(ranks):
    sizes = [16, 4, 4, 64, 16, 8, 24]
    shares = [[int(i.rows) for i in share_images(images_of(sizes), ranks, rank)] for rank in range(ranks)]
    assert sorted(number for share in shares for number in share) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(sizes[number] for number in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes)


def test_a_share_may_be_empty():
    assert share_images(images_of([4]), 2, 1) == []


def test_patches_are_embedded_by_one_product_as_by_transformers_convolution():
    theirs = Qwen2_5_VisionPatchEmbed(patch_size=14, temporal_patch_size=2, in_channels=3, embed_dim=48).double()
    ours = vision.PatchEmbedding(copy.deepcopy(theirs.proj))
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    pixels = torch.randn(40, 3 * 2 * 14 * 14, dtype=torch.float64)
    expected, found = theirs(pixels), ours(pixels)
    for output in (expected, found):
        output.square().sum().backward()
    # fp64: sums of 1,176 products in another order
    assert (found - expected).norm() < 1e-14 * expected.norm()
    gradient = theirs.proj.weight.grad
    assert (ours.proj.weight.grad - gradient).norm() < 1e-14 * gradient.norm()


def test_features_do_not_depend_on_how_many_images_go_through_at_once(trained, batch, monkeypatch):
    together = trained.vision.features_of(batch.image_prompts, last_pass=True)
    monkeypatch.setattr(vision, "PATCHES_PER_PASS", 10)
    apart = trained.vision.features_of(batch.image_prompts, last_pass=True)
    assert len(together) == sum(int(p.image_grid_thw.prod(dim=1).sum()) for p in batch.image_prompts) // 4
    assert (together - apart).abs().max() < 1e-5


def test_the_gradient_does_not_depend_on_how_many_images_go_through_at_once(trained, batch, monkeypatch):
    trained.forward_backward(batch, SRPO)
    together = gradients_of(trained)
    monkeypatch.setattr(vision, "PATCHES_PER_PASS", 10)
    runs, forward = [], trained.vision._forward
    monkeypatch.setattr(trained.vision, "_forward", lambda images: runs.append(len(images)) or forward(images))
    trained.forward_backward(batch, SRPO)
    apart = gradients_of(trained)
    assert runs == [1] * 6  # each image by itself, without a gradient and with one
    for name, gradient in together.items():
        assert (apart[name] - gradient).norm() < 1e-5 * gradient.norm()


def windows_one_by_one(q, k, v, bounds, bounds_k, longest, longest_k, *, scale, window_size):
    """What varlen_attn says it computes."""
    assert window_size == (-1, -1)
    assert bounds is bounds_k
    assert bounds.dtype == torch.int32
    assert longest == longest_k == bounds.diff().max()
    windows = zip(*(x.transpose(0, 1).tensor_split(bounds[1:-1].tolist(), dim=1) for x in (q, k, v)), strict=True)
    return torch.cat([scaled_dot_product_attention(*w, scale=scale).transpose(0, 1) for w in windows])


def test_all_windows_at_once_are_windows_one_by_one(trained, one_process, untrained_model, batch, monkeypatch):
    trained.forward_backward(batch, SRPO)
    by_sdpa, expected = gradients_of(trained), trained.vision.features_of(batch.image_prompts, last_pass=True)
    monkeypatch.setattr(vision, "can_flash", lambda device, dtype: True)
    monkeypatch.setattr(attention, "has_flash_attn", lambda: False)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", windows_one_by_one)
    policy = open_policy(untrained_model, one_process, train_vision=True)
    assert policy.vision.module.config._attn_implementation == vision.FLASH_WINDOWS
    assert (policy.vision.features_of(batch.image_prompts, last_pass=True) - expected).abs().max() < 1e-5
    policy.forward_backward(batch, SRPO)
    for name, gradient in gradients_of(policy).items():
        assert (by_sdpa[name] - gradient).norm() < 1e-5 * gradient.norm()


def test_the_kernel_for_all_windows_takes_what_the_tower_gives(monkeypatch):
    monkeypatch.setattr(attention, "has_flash_attn", lambda: False)
    fused = torch.empty(12, 3, 2, 80, device="meta").permute(1, 2, 0, 3)[:, None]  # views of one product, 80 a head
    bounds = torch.tensor([0, 4, 12], dtype=torch.int32, device="meta")
    out, _ = flash_windows(None, *fused, None, scaling=0.1, cu_seq_lens_q=bounds, max_length_q=8)
    assert out.shape == (1, 12, 2, 80)


def bytes_saved(run: Callable[[], object], module: torch.nn.Module) -> int:
    """Of distinct storages that autograd keeps, the module's weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    saved: dict[int, tuple[object, int]] = {}  # storages are held, so that no address comes twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(size for _, size in saved.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_blocks_of_a_trained_tower_keep_nothing_but_their_inputs(one_process, untrained_model, batch, dtype):
    policy = open_policy(untrained_model, one_process, dtype, train_vision=True)
    tower, images = policy.vision, policy.vision._images(batch.image_prompts)
    recomputed = bytes_saved(lambda: tower._forward(images), tower.module)
    tower.module.eval()  # transformers recomputes in training mode only
    kept = bytes_saved(lambda: tower._forward(images), tower.module)

    patches, shape = sum(len(image.pixel_values) for image in images), find_shape(str(untrained_model), None).vision
    made = shape.depth * patches * made_in_block(shape, tower.dtype.itemsize)
    # attention's log-sums, the norms' scales and the angles, which blocks share, come on top
    assert kept - recomputed == pytest.approx(made, rel=0.05)


def test_a_step_moves_a_trained_tower_and_its_features(trained, batch):
    before = {name: tensor.clone() for name, tensor in trained.hf_weights()}
    features = trained.vision.features_of(batch.image_prompts, last_pass=True)
    after = updated_weights(trained, batch)
    names = {name for name in after if name.startswith("visual.")}
    assert names == {name for name in trained.source.tensor_names if name.startswith("visual.")}
    assert all(not torch.equal(before[name], after[name]) for name in names)
    assert not torch.equal(trained.vision.features_of(batch.image_prompts, last_pass=True), features)


def test_a_frozen_tower_runs_once_for_all_passes_over_an_update(one_process, untrained_model, batch, monkeypatch):
    policy = open_policy(untrained_model, one_process)
    policy.keep_reference()
    expected = policy.forward_backward(batch, SRPO)
    runs = []
    encode = policy.vision.encode
    monkeypatch.setattr(
        policy.vision, "encode", lambda prompts, ranks: runs.append(len(prompts)) or encode(prompts, ranks)
    )
    policy.logprobs(batch)
    policy.reference_logprobs(batch)
    assert policy.forward_backward(batch, SRPO) == expected
    assert runs == [len(batch.image_prompts)]
    policy.forward_backward(batch, SRPO)  # the features of the last pass were not kept
    assert len(runs) == 2


def test_a_trained_tower_runs_in_every_pass(trained, batch, monkeypatch):
    policy, runs = trained, []
    encode = policy.vision.encode
    monkeypatch.setattr(
        policy.vision, "encode", lambda prompts, ranks: runs.append(len(prompts)) or encode(prompts, ranks)
    )
    policy.logprobs(batch)
    policy.forward_backward(batch, SRPO)
    assert len(runs) == 2


def test_a_frozen_tower_is_neither_synced_nor_saved(one_process, untrained_model):
    policy = open_policy(untrained_model, one_process)
    assert not any(name.startswith("visual.") for name, _ in policy.hf_weights())
    assert not any("visual" in name for name in policy.sharded_state_dict()["weights"]["chunk0"])


def test_an_update_without_images_leaves_a_trained_tower_without_gradient(trained, one_process, untrained_model):
    sequences = make_sequences(untrained_model, QUESTIONS[:1])
    trained.forward_backward(packer(untrained_model, one_process, 200)(sequences), SRPO)
    for name, gradient in gradients_of(trained).items():
        assert bool(gradient.any()) != name.startswith("visual.")


def test_a_reloaded_tower_takes_the_same_next_step(trained, batch, one_process, untrained_model, tmp_path):
    updated_weights(trained, batch)
    write_sharded(trained.sharded_state_dict(), tmp_path)
    expected = updated_weights(trained, batch)
    other = open_policy(untrained_model, one_process, train_vision=True)
    other.new_optimizer(OPTIMIZER)
    other.load_state_dict(read_sharded(other.sharded_state_dict(is_loading=True), tmp_path))
    resumed = updated_weights(other, batch)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in expected.items())


def test_the_export_holds_the_trained_tower(trained, batch, tmp_path):
    weights = updated_weights(trained, batch)
    trained.source.export(tmp_path / "hf", trained.hf_weights(), writes=True)
    exported = HFDirectory(tmp_path / "hf")
    assert all(torch.equal(exported.tensor(name), tensor) for name, tensor in weights.items())
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "hf")
    for name, parameter in model.named_parameters():
        if canonical(name).startswith("visual."):
            assert torch.equal(parameter, weights[canonical(name)])

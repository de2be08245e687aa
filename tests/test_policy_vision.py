"""The vision tower: once per prompt, shared by ranks, frozen unless it is trained."""

import pytest
import torch

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import Qwen2_5_VLForConditionalGeneration

from srpo_fast.config import LossConfig
from srpo_fast.loss import objective_of, srpo_loss
from srpo_fast.policy import Policy, vision
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
        vision._Image(pixels=torch.empty(size, 0), grid=torch.tensor([1, 1, size]), rows=torch.tensor([number]))
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


def test_features_do_not_depend_on_how_many_images_go_through_at_once(trained, batch, monkeypatch):
    together = trained.vision.encode(batch.image_prompts)
    monkeypatch.setattr(vision, "PATCHES_PER_PASS", 10)
    apart = trained.vision.encode(batch.image_prompts)
    assert len(together) == sum(int(p.image_grid_thw.prod(dim=1).sum()) for p in batch.image_prompts) // 4
    assert (together - apart).abs().max() < 1e-5


def test_the_gradient_does_not_depend_on_how_many_images_go_through_at_once(trained, batch, monkeypatch):
    trained.forward_backward(batch, SRPO)
    together = gradients_of(trained)
    monkeypatch.setattr(vision, "PATCHES_PER_PASS", 10)
    trained.forward_backward(batch, SRPO)
    apart = gradients_of(trained)
    for name, gradient in together.items():
        assert (apart[name] - gradient).norm() < 1e-5 * gradient.norm()


def test_a_step_moves_a_trained_tower_and_its_features(trained, batch):
    before = {name: tensor.clone() for name, tensor in trained.hf_weights()}
    features = trained.vision.encode(batch.image_prompts)
    after = updated_weights(trained, batch)
    names = {name for name in after if name.startswith("visual.")}
    assert names == {name for name in trained.source.tensor_names if name.startswith("visual.")}
    assert all(not torch.equal(before[name], after[name]) for name in names)
    assert not torch.equal(trained.vision.encode(batch.image_prompts), features)


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

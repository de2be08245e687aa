"""The Megatron policy on one rank is the Hugging Face model: logits, gradients, state and export."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from torch import Tensor

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import Qwen2_5_VLForConditionalGeneration

from srpo_fast.batch import Prompt, TrainingSequence
from srpo_fast.config import ConfigError, LossConfig
from srpo_fast.loss import objective_of, srpo_loss, supervised_loss
from srpo_fast.parallel import HANG_TIMEOUT
from srpo_fast.policy import NotFinite, Policy
from srpo_fast.policy.hf_directory import HFDirectory
from srpo_fast.policy.language_model import transformer_config
from srpo_fast.policy.name_map import canonical
from srpo_fast.policy.sharded_state import read_sharded, write_sharded
from tests.policy_case import (
    OPTIMIZER,
    gradients_of,
    largest_relative_error,
    make_sequences,
    open_policy,
    packer,
)
from tests.policy_parity import largest_difference, recording

SRPO = srpo_loss(objective_of(LossConfig()))


@pytest.fixture(scope="module")
def policy(one_process, untrained_model) -> Policy:
    return open_policy(untrained_model, one_process)


@pytest.fixture
def fresh_policy(one_process, untrained_model) -> Policy:
    """For tests that train it."""
    policy = open_policy(untrained_model, one_process)
    policy.new_optimizer(OPTIMIZER)
    return policy


@pytest.fixture(scope="module")
def sequences(untrained_model) -> list[TrainingSequence]:
    return make_sequences(untrained_model)


@pytest.fixture(scope="module")
def hf_model(untrained_model) -> Qwen2_5_VLForConditionalGeneration:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(untrained_model, attn_implementation="eager")
    model.model.visual.requires_grad_(False)
    return model


def hf_logits(model: Qwen2_5_VLForConditionalGeneration, prompt: Prompt, completion_ids: tuple[int, ...]) -> Tensor:
    """[L, V] of the sequence by itself, images and positions made by transformers."""
    ids = torch.cat([prompt.token_ids, torch.tensor(completion_ids)])[None]
    images = {"pixel_values": prompt.pixel_values, "image_grid_thw": prompt.image_grid_thw}
    is_image = (ids == model.config.image_token_id).int()
    return model(input_ids=ids, mm_token_type_ids=is_image, **(images if len(prompt.image_grid_thw) else {})).logits[0]


def hf_logprobs(model: Qwen2_5_VLForConditionalGeneration, sequence: TrainingSequence, banned: Tensor) -> Tensor:
    """[R] of the loss tokens, banned ones at -100."""
    logits = hf_logits(model, sequence.prompt, sequence.completion_ids)
    logits = logits[len(sequence.prompt.token_ids) - 1 : -1].index_add(
        1, banned, torch.full((len(sequence.completion_ids), len(banned)), -100.0)
    )
    chosen = F.log_softmax(logits, dim=-1).gather(1, torch.tensor(sequence.completion_ids)[:, None])[:, 0]
    return chosen[torch.tensor(sequence.loss_mask)]


def logprobs_by_sequence(policy: Policy, sequences: list[TrainingSequence], batch) -> dict[tuple[int, ...], Tensor]:
    """The log-probs of each completion, whichever micro-batch it is in."""
    found = {}
    for micro_batch, logprobs in zip(batch.micro_batches, policy.logprobs(batch), strict=True):
        assert logprobs is not None
        starts = micro_batch.cu_seqlens.tolist()
        for start, end in pairwise(starts):
            ids = micro_batch.input_ids[start:end].tolist()
            (owner,) = [s for s in sequences if [*s.prompt.token_ids.tolist(), *s.completion_ids] == ids]
            inside = (micro_batch.loss_rows >= start) & (micro_batch.loss_rows < end)
            found[owner.completion_ids] = logprobs[inside]
    return found


def updated_weights(policy: Policy, batch, lr: float = 1e-3) -> dict[str, Tensor]:
    policy.forward_backward(batch, SRPO)
    policy.step(lr)
    return {name: tensor.clone() for name, tensor in policy.hf_weights()}


def save_policy(policy: Policy, folder: Path) -> None:
    folder.mkdir()
    write_sharded(policy.sharded_state_dict(), folder)


def load_policy(policy: Policy, folder: Path) -> None:
    policy.load_state_dict(read_sharded(policy.sharded_state_dict(is_loading=True), folder))


def test_logits_of_packed_prompts_are_transformers(policy, one_process, untrained_model, sequences, hf_model):
    (batch,) = packer(untrained_model, one_process, 4096)(sequences).micro_batches
    prompts = packer(untrained_model, one_process, 4096)(sequences).image_prompts
    with torch.no_grad():
        hidden = policy.language_model[0](batch, policy.vision.features_of(prompts, last_pass=True))
        logits = hidden[batch.loss_rows] @ policy.language_model[0].head_weight.T
        expected = []
        order = sorted(sequences, key=lambda s: len(s.prompt.token_ids) + len(s.completion_ids), reverse=True)
        for sequence in order:
            logits_of_one = hf_logits(hf_model, sequence.prompt, sequence.completion_ids)
            rows = logits_of_one[len(sequence.prompt.token_ids) - 1 : -1]
            expected.append(rows[torch.tensor(sequence.loss_mask)])
    assert len(batch.cu_seqlens) == len(sequences) + 1
    assert (logits - torch.cat(expected)).abs().max() < 1e-5


def test_every_gradient_is_transformers_autograd(policy, one_process, untrained_model, sequences, hf_model):
    metrics = policy.forward_backward(packer(untrained_model, one_process, 200)(sequences), SRPO)
    loss = torch.zeros(())
    for s in sequences:
        logprobs = hf_logprobs(hf_model, s, policy.vocab.banned_columns)
        rollout = torch.tensor([p for p, m in zip(s.rollout_logprobs, s.loss_mask, strict=True) if m])
        correction = (logprobs.detach() - rollout).exp().clamp(max=2.0)
        loss = loss - s.token_weight * s.advantage * (correction * (logprobs - logprobs.detach()).exp()).sum()
    hf_model.zero_grad()
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)

    expected = {canonical(n): p.grad for n, p in hf_model.named_parameters() if p.grad is not None}
    assert len(expected) == 3 * 12 + 2
    assert largest_relative_error(gradients_of(policy), expected) < 1e-5


def test_a_completions_log_probs_do_not_depend_on_its_neighbours(policy, one_process, untrained_model, sequences):
    """By itself, and in every pair: before a shorter one, behind a longer one, with and without images."""
    pack = packer(untrained_model, one_process, 4096)
    together = logprobs_by_sequence(policy, sequences, pack(sequences))
    for members in (*combinations(sequences, 1), *combinations(sequences, 2)):
        (row,) = pack(members).micro_batches
        assert len(row.cu_seqlens) == len(members) + 1
        for completion, logprobs in logprobs_by_sequence(policy, list(members), pack(members)).items():
            # not bitwise: a product's order of summation depends on its number of rows. fp32 numbers near -6 are
            # 4.8e-7 apart, and two such steps were the most that was seen
            assert (together[completion] - logprobs).abs().max() < 4 * 4.8e-7


def test_a_flashinfer_that_came_with_vllm_is_left_to_vllm(tmp_path):
    (tmp_path / "flashinfer.py").write_text("raise RuntimeError('is imported')")
    command = [sys.executable, "-c", "import srpo_fast.policy\nprint('then')\nimport flashinfer"]
    path = os.pathsep.join([str(tmp_path), *sys.path[1:]])
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    assert found.stdout == "then\n", found.stderr
    assert found.stderr.endswith("RuntimeError: is imported\n")


def test_megatrons_groups_wait_as_long_as_ours(policy):
    group = parallel_state.get_tensor_model_parallel_group()
    assert group._get_backend(torch.device("cpu")).options._timeout == HANG_TIMEOUT


def test_log_probs_see_the_images(policy, one_process, untrained_model, sequences, hf_model):
    found = logprobs_by_sequence(policy, sequences, packer(untrained_model, one_process, 4096)(sequences))
    with torch.no_grad():
        for sequence in sequences:
            expected = hf_logprobs(hf_model, sequence, policy.vocab.banned_columns)
            assert (found[sequence.completion_ids] - expected).abs().max() < 1e-5


def test_micro_batches_do_not_change_the_gradient(policy, one_process, untrained_model, sequences):
    found = []
    for budget in (4096, 80):
        policy.forward_backward(packer(untrained_model, one_process, budget)(sequences), SRPO)
        found.append(gradients_of(policy))
    assert largest_relative_error(found[1], found[0]) < 1e-5


def test_the_mlp_that_cuda_fuses_is_the_same(policy, one_process, untrained_model, sequences, monkeypatch):
    """Here without its compiler: the function that it compiles, and the gradient written out by hand."""
    text_config = policy.source.config.text_config
    fuses = {d: transformer_config(text_config, torch.bfloat16, replace(one_process, device=torch.device(d)))
             .bias_activation_fusion for d in ("cpu", "cuda")}  # fmt: skip
    assert fuses == {"cpu": False, "cuda": True}
    batch, found = packer(untrained_model, one_process, 200)(sequences), []
    for fused in (False, True):
        monkeypatch.setattr(policy.language_model[0].config, "bias_activation_fusion", fused)
        policy.forward_backward(batch, SRPO)
        found.append(gradients_of(policy))
    assert 0 < largest_relative_error(found[1], found[0]) < 1e-6


def test_completions_that_share_their_prompt_have_their_logits_and_gradient(
    policy, one_process, untrained_model, sequences
):
    found = []
    for share_prompts in (False, True):
        rows: dict[float, Tensor] = {}
        batch = packer(untrained_model, one_process, 4096, share_prompts=share_prompts)(sequences)
        policy.forward_backward(batch, recording(SRPO, rows))
        found.append((sum(len(row.input_ids) for row in batch.micro_batches), rows, gradients_of(policy)))
    (tokens, logits, gradients), (fewer_tokens, shared_logits, shared_gradients) = found
    assert fewer_tokens == tokens - sum(len(s.prompt.token_ids) for s in sequences) / 2  # two completions a prompt
    # fp32 numbers of these logits' size are 4.8e-7 apart
    assert largest_difference(shared_logits, logits) < 4 * 4.8e-7
    assert largest_relative_error(shared_gradients, gradients) < 1e-6


def test_an_update_does_not_see_the_gradient_of_the_one_before(fresh_policy, one_process, untrained_model, sequences):
    batch = packer(untrained_model, one_process, 80)(sequences)
    assert len(batch.micro_batches) > 2
    norms = []
    for _ in range(3):
        fresh_policy.forward_backward(batch, SRPO)
        norms.append(fresh_policy.step(0.0))
    assert norms[1:] == norms[:1] * 2


def test_a_step_moves_the_language_model_and_no_vision_weight(fresh_policy, one_process, untrained_model, sequences):
    before = {name: tensor.clone() for name, tensor in fresh_policy.hf_weights()}
    tower = {name: tensor.clone() for name, tensor in fresh_policy.vision.module.state_dict().items()}
    after = updated_weights(fresh_policy, packer(untrained_model, one_process, 4096)(sequences))
    assert fresh_policy.version == 1
    assert all(not torch.equal(before[name], tensor) for name, tensor in after.items())
    assert all(torch.equal(tower[name], tensor) for name, tensor in fresh_policy.vision.module.state_dict().items())


def test_training_lowers_the_supervised_loss(fresh_policy, one_process, untrained_model, sequences):
    batch = packer(untrained_model, one_process, 4096)(sequences)
    losses = []
    for _ in range(5):
        losses.append(fresh_policy.forward_backward(batch, supervised_loss)["loss"])
        fresh_policy.step(2e-3)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("distributed", [False, True])
def test_a_reloaded_policy_takes_the_same_next_step(
    one_process, untrained_model, sequences, tmp_path, distributed, dtype
):
    parallel = replace(one_process, distributed_optimizer=distributed)
    batch = packer(untrained_model, parallel, 4096)(sequences)
    policies = [open_policy(untrained_model, parallel, dtype) for _ in range(2)]
    for policy in policies:
        policy.new_optimizer(OPTIMIZER)
    trained, other = policies
    for _ in range(2):
        updated_weights(trained, batch)
    save_policy(trained, tmp_path / "state")
    expected = [updated_weights(trained, batch) for _ in range(2)]

    load_policy(other, tmp_path / "state")
    assert other.version == 2
    resumed = [updated_weights(other, batch) for _ in range(2)]
    for mine, theirs in zip(resumed, expected, strict=True):
        assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())


def test_a_state_saved_before_the_first_update_is_a_beginning(
    fresh_policy, one_process, untrained_model, sequences, tmp_path
):
    batch = packer(untrained_model, one_process, 4096)(sequences)
    save_policy(fresh_policy, tmp_path / "state")
    expected = updated_weights(fresh_policy, batch)
    other = open_policy(untrained_model, one_process)
    other.new_optimizer(OPTIMIZER)
    load_policy(other, tmp_path / "state")
    assert all(torch.equal(expected[name], tensor) for name, tensor in updated_weights(other, batch).items())


def test_without_the_optimizers_state_the_next_step_differs(
    fresh_policy, one_process, untrained_model, sequences, tmp_path
):
    """What the tests above would miss if the state were empty."""
    batch = packer(untrained_model, one_process, 4096)(sequences)
    updated_weights(fresh_policy, batch)
    save_policy(fresh_policy, tmp_path / "state")
    expected = updated_weights(fresh_policy, batch)
    other = open_policy(untrained_model, one_process)
    load_policy(other, tmp_path / "state")
    other.new_optimizer(OPTIMIZER)
    resumed = updated_weights(other, batch)
    assert any(not torch.equal(resumed[name], tensor) for name, tensor in expected.items())


def test_the_export_is_the_policy(fresh_policy, one_process, untrained_model, sequences, tmp_path: Path):
    weights = updated_weights(fresh_policy, packer(untrained_model, one_process, 4096)(sequences))
    fresh_policy.source.export(tmp_path / "hf", fresh_policy.hf_weights(), writes=True)
    exported = HFDirectory(tmp_path / "hf")
    assert all(torch.equal(exported.tensor(name), tensor) for name, tensor in weights.items())

    again = open_policy(tmp_path / "hf", one_process)
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.hf_weights())
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "hf", attn_implementation="eager")
    found = logprobs_by_sequence(fresh_policy, sequences, packer(untrained_model, one_process, 4096)(sequences))
    with torch.no_grad():
        for sequence in sequences:
            expected = hf_logprobs(model, sequence, fresh_policy.vocab.banned_columns)
            assert (found[sequence.completion_ids] - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"tp": 3}, "parallel.tp=3 does not divide the model's num_attention_heads=4"),
        ({"tp": 4}, "parallel.tp=4 does not divide the model's num_key_value_heads=2"),
        ({"pp": 4}, "parallel.pp=4 is more than the model's 3 layers"),
    ],
)
def test_sizes_that_do_not_fit_the_model_are_refused(one_process, untrained_model, sizes, says):
    parallel = replace(one_process, world=12, **sizes)
    with pytest.raises(ConfigError, match=says):
        transformer_config(HFDirectory(untrained_model).config.text_config, torch.float32, parallel)


def test_a_directory_in_the_published_flat_form_is_the_same_model(policy, one_process, untrained_model, tmp_path: Path):
    """Qwen's own config.json has the text model's keys at its top, and its rotary settings under older names."""
    flat = shutil.copytree(untrained_model, tmp_path / "flat")
    config = json.loads((flat / "config.json").read_text())
    text = {key: value for key, value in config.pop("text_config").items() if key != "tie_word_embeddings"}
    rope = text.pop("rope_parameters")
    text |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    (flat / "config.json").write_text(json.dumps(text | config))
    batch = packer(untrained_model, one_process, 4096)(make_sequences(untrained_model))
    for found, expected in zip(open_policy(flat, one_process).logprobs(batch), policy.logprobs(batch), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_ends_the_run(fresh_policy, sequences, one_process, untrained_model, broken):
    batch = packer(untrained_model, one_process, 4096)([replace(sequences[0], advantage=broken), *sequences[1:]])
    fresh_policy.forward_backward(batch, SRPO)
    with pytest.raises(NotFinite, match=r"update 1: the gradient's norm is (nan|inf), .* last checkpoint is intact"):
        fresh_policy.step(1e-5)

"""What the decoder keeps for its backward pass: the formulas against the tensors that autograd really saves."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from srpo_fast.batch import MicroBatch
from srpo_fast.config import load_config
from srpo_fast.estimate import activations
from srpo_fast.estimate.assumptions import assume
from srpo_fast.estimate.gpus import GPUS
from srpo_fast.estimate.job import Job, MicroBatchSize, head_chunk, make_job
from srpo_fast.loss import Head, Metrics
from srpo_fast.model_shape import find_shape
from srpo_fast.packing import PackedBatch
from srpo_fast.policy import Policy
from srpo_kernels.head_products import chunk_rows
from tests.estimate.conftest import CONFIGS
from tests.policy_case import make_sequences, packer

BATCH = MicroBatchSize(tokens=10, loss_rows=4, padded_tokens=10)


def saved_by_decoder(policy: Policy, batch: PackedBatch) -> float:
    """Bytes of distinct storages that autograd keeps, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in policy.language_model.parameters()}
    saved: dict[int, tuple[object, int]] = {}  # storages are held, so that no address comes twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage, storage.nbytes())
        return tensor

    def sum_of_states(micro_batch: MicroBatch, hidden: Tensor, head: Head) -> tuple[Tensor, Metrics]:
        return hidden.sum(), {}  # which keeps nothing

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.forward_backward(batch, sum_of_states)
    return float(sum(size for _, size in saved.values()))


@pytest.mark.parametrize("fused", [False, True], ids=["cpu", "cuda"])  # the MLP, as the policy's config has it there
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kept_bytes_are_those_that_autograd_saves(dtype, fused, one_process, untrained_model):
    policy = Policy(
        untrained_model, dtype=dtype, seed=0, parallel=one_process, banned_ids=(1,), temperature=1.0
    )  # fmt: skip
    policy.language_model[0].config.bias_activation_fusion = fused
    batch = packer(untrained_model, one_process, 4096)(make_sequences(untrained_model))
    micro = batch.micro_batches[0]
    config = load_config(CONFIGS / "embedded.yaml", [f"model.dtype={dtype}"])
    shape = find_shape(str(untrained_model), None)
    job = make_job(config, shape, GPUS["cpu"], 1, 1.0, assume(config, shape.vision, [], is_cpu=True))
    tokens = len(micro.input_ids)
    size = MicroBatchSize(
        tokens=tokens, loss_rows=0, padded_tokens=(len(micro.cu_seqlens) - 1) * micro.max_seqlen
    )  # fmt: skip
    kept = activations.kept_a_layer(job, size)
    if fused:
        kept += activations.mlp(replace(job, gpu=GPUS["h100"]), size) - activations.mlp(job, size)
    predicted = shape.text.layers * kept
    # the last norm and the head's input come on top, as do rotary angles: a tenth of a model as thin as this one
    assert saved_by_decoder(policy, batch) == pytest.approx(predicted, rel=0.12)


def test_a_layer_worked_out_by_hand(tiny_job):
    job: Job = tiny_job()
    # bf16, ten tokens: norms 4 x 8, attention 3 x 8 + 3 x 4 and four fp32 log-sums, MLP 3 x 16
    assert activations.kept_a_layer(job, BATCH) == 10 * (32 * 2 + 36 * 2 + 4 * 4 + 48 * 2)
    assert activations.rebuilt_in_backward(job, BATCH) == 10 * (2 * 16 + 2 * 8) * 2


def test_a_head_in_chunks_needs_its_chunk_and_the_rows_it_came_from(tiny_job):
    # two rows of fp32 logits; their states, the product and its share of the bf16 gradients of four hidden rows
    assert activations.loss_peak(tiny_job(head_chunk=2), BATCH) == 2 * 32 * 4 + 2 * 8 * 6 + 4 * 8 * 2
    assert activations.loss_peak(tiny_job(head_chunk=99), BATCH) == 4 * 32 * 4 + 4 * 8 * 6 + 4 * 8 * 2
    on_cpu = tiny_job(head_chunk=2, gpu="cpu")  # multiplies in fp32, the weight as well
    assert activations.loss_peak(on_cpu, BATCH) == 2 * 32 * 4 + 2 * 8 * 10 + 4 * 8 * 2 + 32 * 8 * 4


@pytest.mark.parametrize("columns", [512, 32_768, 152_064])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_head_takes_as_many_rows_as_its_operation(columns, device):
    assert head_chunk(columns, is_cpu=device == "cpu") == chunk_rows(columns, device)


def test_tensor_parallelism_divides_all_but_the_stream(tiny_job):
    one, two = tiny_job(), tiny_job("parallel.tp=2", gpus=2)
    stream = 10 * 4 * 8 * 2
    assert activations.kept_a_layer(two, BATCH) - stream == (activations.kept_a_layer(one, BATCH) - stream) / 2
    shared = tiny_job("parallel.tp=2", gpus=2, sequence_parallel=True)
    assert activations.kept_a_layer(shared, BATCH) == activations.kept_a_layer(one, BATCH) / 2


def test_recomputation_keeps_less_and_rebuilds_it(tiny_job):
    none, selective, full = (tiny_job(recompute=mode) for mode in ("none", "selective", "full"))
    kept = [activations.kept_a_layer(job, BATCH) for job in (none, selective, full)]
    assert kept[0] - kept[1] == 10 * 3 * 16 * 2  # the MLP
    assert kept[2] == 10 * 8 * 2  # a layer's input
    rebuilt = [activations.rebuilt_in_backward(job, BATCH) for job in (none, selective, full)]
    assert rebuilt[1] - rebuilt[0] == 10 * 3 * 16 * 2
    assert rebuilt[2] - rebuilt[0] == kept[0]

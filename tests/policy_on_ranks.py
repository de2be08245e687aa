"""Run under torchrun: the updates of policy_case and objective_case on two ranks in several layouts, also resumed.

Rank 0 leaves <layout>.pt with the metrics and weights, <layout>/hf, the export, and <saved>_to_<resumed>.pt. The
checkpoints in <layout>/checkpoints hold the state after the first update. <layout>_economical.pt has weights of a bf16
policy with the smallest optimizer state, which <layout>_economical/checkpoints hold after one update.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from srpo_fast import checkpoint
from srpo_fast.checkpoint import Checkpoint
from srpo_fast.config import LossConfig, ParallelConfig
from srpo_fast.loss import objective_of, srpo_loss
from srpo_fast.packing import PackedBatch
from srpo_fast.parallel import Parallel, start, stop
from srpo_fast.policy import Policy
from tests.objective_case import move_from_reference, updates
from tests.policy_case import OPTIMIZER, gradients_of, make_sequences, open_policy, packer

LAYOUTS: dict[str, dict[str, Any]] = {
    "tp": {"tp": 2},
    "pp": {"pp": 2},
    "dp": {},
    "tp_distributed": {"tp": 2, "distributed_optimizer": True},
    "dp_distributed": {"distributed_optimizer": True},
}
RESUMED_AS: dict[str, dict[str, Any]] = LAYOUTS | {
    "cp": {"cp": 2},
    "pp_distributed": {"pp": 2, "distributed_optimizer": True},
}
RESUMES = [
    ("tp", "tp"), ("tp", "pp"), ("tp", "dp"), ("tp", "cp"), ("pp", "pp"),
    ("tp_distributed", "pp_distributed"), ("tp_distributed", "dp_distributed"),
    ("dp_distributed", "dp_distributed"), ("dp_distributed", "tp_distributed"),
]  # fmt: skip
OF_OBJECTIVES = ["tp", "pp", "dp", "cp"]
ECONOMICAL_LAYOUTS = ["tp", "dp", "dp_distributed"]
ECONOMICAL = OPTIMIZER.model_copy(
    update={"master_weights": "remainder", "moments": "bfloat16", "offload": True, "lr": 1e-3}
)
TOKENS_PER_MICRO_BATCH = 120  # several micro-batches, of which pp and dp ranks must make the same number and sum
LOSS = srpo_loss(objective_of(LossConfig()))


def weights_of(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in policy.hf_weights()}


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def one_update(policy: Policy, batch: PackedBatch) -> dict[str, Any]:
    metrics = policy.forward_backward(batch, LOSS)
    gradients = gradients_of(policy)
    grad_norm = policy.step(OPTIMIZER.lr)
    return {"metrics": metrics, "gradients": gradients, "grad_norm": grad_norm, "weights": weights_of(policy)}


def train(model_dir: Path, parallel: Parallel, out: Path) -> dict[str, object]:
    """Two updates, with a checkpoint and an export between them."""
    batch = packer(model_dir, parallel, TOKENS_PER_MICRO_BATCH)(make_sequences(model_dir))
    policy = open_policy(model_dir, parallel)
    policy.new_optimizer(OPTIMIZER)
    policy.keep_reference()
    first = one_update(policy, batch)
    state = Checkpoint(
        step=1, policy=policy.sharded_state_dict(), prompt_source={}, reward_watch={}, rng=torch.get_rng_state()
    )
    checkpoint.save(out / "checkpoints", state, parallel)
    policy.source.export(out / "hf", policy.hf_weights(), writes=parallel.is_main)
    second = one_update(policy, batch)
    reference = reference_of(policy, batch)
    assert largest_difference(weights_of(policy), second["weights"]) == 0, (
        "the reference's weights stayed in the policy"
    )
    return {
        "first": first,
        "second": second,
        "reference": reference,
        "layers": len(policy.language_model[0].decoder.layers),
    }


def resume(model_dir: Path, parallel: Parallel, root: Path) -> dict[str, Any]:
    """The second update of a policy that begins with what is saved."""
    batch = packer(model_dir, parallel, TOKENS_PER_MICRO_BATCH)(make_sequences(model_dir))
    saved = checkpoint.load_latest(root, parallel)
    assert saved
    policy = open_policy(model_dir, parallel)
    policy.new_optimizer(OPTIMIZER)
    policy.keep_reference()  # to be read over
    with torch.no_grad():
        for tensor in policy._reference.values():
            tensor.fill_(torch.nan)
    policy.load_state_dict(saved.read_policy(policy.sharded_state_dict(is_loading=True)))
    assert policy.version == 1
    return one_update(policy, batch) | {"reference": reference_of(policy, batch)}


def economical(model_dir: Path, parallel: Parallel, out: Path) -> dict[str, Any]:
    """A second update of the policy that made the first, and of one that reads what was saved then."""
    batch = packer(model_dir, parallel, TOKENS_PER_MICRO_BATCH)(make_sequences(model_dir))
    policies = [open_policy(model_dir, parallel, "bfloat16") for _ in range(2)]
    for policy in policies:
        policy.new_optimizer(ECONOMICAL)
    trained, other = policies
    one_update(trained, batch)
    state = Checkpoint(
        step=1, policy=trained.sharded_state_dict(), prompt_source={}, reward_watch={}, rng=torch.get_rng_state()
    )
    checkpoint.save(out / "checkpoints", state, parallel)
    saved = checkpoint.load_latest(out / "checkpoints", parallel)
    assert saved
    other.load_state_dict(saved.read_policy(other.sharded_state_dict(is_loading=True)))
    weights = [one_update(policy, batch)["weights"] for policy in policies]
    of_ranks: list[Any] = [None] * parallel.world
    dist.all_gather_object(of_ranks, weights[0])  # with what every rank has of its own
    return {"trained": weights[0], "resumed": weights[1], "of_ranks": of_ranks}


def reference_of(policy: Policy, batch: PackedBatch) -> dict[float, float] | None:
    """The reference's log-prob of every row of this rank, by its rollout log-prob; None before the last stage."""
    rows: dict[float, float] = {}
    for micro_batch, logprobs in zip(batch.micro_batches, policy.reference_logprobs(batch), strict=True):
        if logprobs is None:
            return None
        rows |= dict(zip(micro_batch.rollout_logprobs.tolist(), logprobs.tolist(), strict=True))
    return rows


def objectives(model_dir: Path, parallel: Parallel) -> dict[str, Any]:
    policy = open_policy(model_dir, parallel)
    move_from_reference(policy)
    return updates(policy, model_dir, parallel, TOKENS_PER_MICRO_BATCH)


def main(model_dir: Path, out: Path) -> None:
    world = start(ParallelConfig())
    for name, sizes in LAYOUTS.items():
        finish(train(model_dir, replace(world, **sizes), out / name), out / f"{name}.pt", world)
    for name in OF_OBJECTIVES:
        finish(objectives(model_dir, replace(world, **RESUMED_AS[name])), out / f"{name}_objectives.pt", world)
    for name in ECONOMICAL_LAYOUTS:
        folder = out / f"{name}_economical"
        finish(economical(model_dir, replace(world, **LAYOUTS[name]), folder), out / f"{folder.name}.pt", world)
    for saved, resumed in RESUMES:
        result = resume(model_dir, replace(world, **RESUMED_AS[resumed]), out / saved / "checkpoints")
        finish(result, out / f"{saved}_to_{resumed}.pt", world)
    stop()


def finish(result: dict[str, Any], file: Path, world: Parallel) -> None:
    if "reference" in result:
        of_ranks: list[Any] = [None] * world.world
        dist.all_gather_object(of_ranks, result["reference"])
        result["reference"] = {key: value for rows in of_ranks for key, value in (rows or {}).items()}
    if world.is_main:
        torch.save(result, file)
    dist.barrier()
    parallel_state.destroy_model_parallel()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Run under torchrun: the update of policy_case on two ranks, as tp=2, pp=2 and dp=2 one after the other.

Rank 0 leaves <layout>.pt with the metrics and weights, and <layout>/hf, the export.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from srpo_fast import checkpoint
from srpo_fast.checkpoint import Checkpoint
from srpo_fast.config import LossConfig, ParallelConfig
from srpo_fast.loss import srpo_loss
from srpo_fast.parallel import Parallel, start, stop
from srpo_fast.policy import Policy
from tests.policy_case import OPTIMIZER, gradients_of, make_sequences, open_policy, packer

LAYOUTS = {"tp": (2, 1), "pp": (1, 2), "dp": (1, 1)}
TOKENS_PER_MICRO_BATCH = 120  # several micro-batches, of which pp and dp ranks must make the same number and sum


def weights_of(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in policy.hf_weights()}


def train_and_resume(model_dir: Path, parallel: Parallel, out: Path) -> dict[str, object]:
    """Two updates; the second once more after a checkpoint was saved and loaded into a new policy."""
    batch = packer(model_dir, parallel, TOKENS_PER_MICRO_BATCH)(make_sequences(model_dir))
    loss = srpo_loss(LossConfig())
    policy = open_policy(model_dir, parallel)
    policy.new_optimizer(OPTIMIZER)
    metrics = policy.forward_backward(batch, loss)
    gradients = gradients_of(policy)
    grad_norm = policy.step(OPTIMIZER.lr)
    first = weights_of(policy)
    state = Checkpoint(step=1, policy=policy.state_dict(), sampler={}, rng=torch.get_rng_state())
    checkpoint.save(out / "checkpoints", state, parallel)
    policy.source.export(out / "hf", policy.hf_weights(), writes=parallel.is_main)
    policy.forward_backward(batch, loss)
    policy.step(OPTIMIZER.lr)
    second = weights_of(policy)

    loaded = checkpoint.load_latest(out / "checkpoints", parallel)
    assert loaded
    again = open_policy(model_dir, parallel)
    again.new_optimizer(OPTIMIZER)
    again.load_state_dict(loaded.policy)
    again.forward_backward(batch, loss)
    again.step(OPTIMIZER.lr)
    resumed = weights_of(again)
    return {
        "metrics": metrics,
        "gradients": gradients,
        "grad_norm": grad_norm,
        "first": first,
        "second": second,
        "resumed": resumed,
        "layers": len(policy.language_model[0].decoder.layers),
    }


def main(model_dir: Path, out: Path) -> None:
    world = start(ParallelConfig())
    for name, (tp, pp) in LAYOUTS.items():
        parallel = Parallel(rank=world.rank, world=world.world, tp=tp, pp=pp, device=world.device)
        result = train_and_resume(model_dir, parallel, out / name)
        if parallel.is_main:
            torch.save(result, out / f"{name}.pt")
        dist.barrier()
        parallel_state.destroy_model_parallel()
    stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

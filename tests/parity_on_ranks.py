"""Run under torchrun: the update of policy_parity in every layout for this many ranks, one after the other.

Leaves <layout>.pt with rank 0's gradients and the metrics, and <layout>_rows_<rank>.pt with the logits of each rank.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from torch import Tensor

from srpo_fast.config import LossConfig, ParallelConfig
from srpo_fast.loss import objective_of, srpo_loss
from srpo_fast.parallel import Parallel, start, stop
from tests.policy_case import OPTIMIZER, gradients_of, open_policy, packer
from tests.policy_parity import TOKENS_PER_MICRO_BATCH, parity_sequences, recording

POLICY_SETTINGS = {"recompute", "train_vision", "model", "share_prompts"}
LAYOUTS: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "tp2": {"tp": 2},
        "tp2_sp": {"tp": 2, "sequence_parallel": True},
        "pp2": {"pp": 2},
        "pp2_untied": {"pp": 2, "model": "untied"},
        "pp2_interleaved": {"pp": 2, "chunks_per_stage": 2},
        "cp2": {"cp": 2},
        "dp2": {},
        "dp2_distributed": {"distributed_optimizer": True},
        "tp2_sp_full_recompute": {"tp": 2, "sequence_parallel": True, "recompute": "full"},
        "cp2_selective_recompute": {"cp": 2, "recompute": "selective"},
        "tp2_sp_vision": {"tp": 2, "sequence_parallel": True, "train_vision": True},
        "pp2_interleaved_vision": {"pp": 2, "chunks_per_stage": 2, "train_vision": True},
        "tp2_sp_shared_prompts": {"tp": 2, "sequence_parallel": True, "share_prompts": True},
        "pp2_interleaved_shared_prompts": {"pp": 2, "chunks_per_stage": 2, "share_prompts": True},
        "cp2_shared_prompts": {"cp": 2, "share_prompts": True},
        "cp2_vision": {"cp": 2, "train_vision": True},
        "dp2_distributed_vision": {"distributed_optimizer": True, "train_vision": True},
    },
    4: {
        "tp2_pp2": {"tp": 2, "pp": 2},
        "tp2_sp_pp2_interleaved": {"tp": 2, "sequence_parallel": True, "pp": 2, "chunks_per_stage": 2},
        "tp2_sp_cp2": {"tp": 2, "sequence_parallel": True, "cp": 2},
        "cp2_pp2": {"cp": 2, "pp": 2},
        "cp2_dp2_distributed": {"cp": 2, "distributed_optimizer": True},
        "pp4_uneven": {"pp": 4},
    },
}


def one_update(model_dir: Path, parallel: Parallel, settings: dict[str, Any], out: Path, name: str) -> None:
    share_prompts = settings.pop("share_prompts", False)
    policy = open_policy(model_dir, parallel, **settings)
    policy.new_optimizer(OPTIMIZER)
    pack = packer(model_dir, parallel, TOKENS_PER_MICRO_BATCH, share_prompts=share_prompts)
    batch = pack(parity_sequences(model_dir))
    rows: dict[float, Tensor] = {}
    metrics = policy.forward_backward(batch, recording(srpo_loss(objective_of(LossConfig())), rows))
    gradients = gradients_of(policy)
    logprobs = policy.logprobs(batch)
    if parallel.tp_rank == 0 and parallel.is_last_stage:
        keys = [key for m in batch.micro_batches for key in m.rollout_logprobs.tolist()]
        torch.save(
            {"logits": rows, "logprobs": dict(zip(keys, torch.cat(logprobs).tolist(), strict=True))},
            out / f"{name}_rows_{parallel.rank}.pt",
        )
    grad_norm = policy.step(OPTIMIZER.lr)
    if parallel.is_main:
        torch.save({"metrics": metrics, "gradients": gradients, "grad_norm": grad_norm}, out / f"{name}.pt")


def main(models: Path, out: Path) -> None:
    world = start(ParallelConfig())
    for name, settings in LAYOUTS[world.world].items():
        parallel = replace(world, **{key: value for key, value in settings.items() if key not in POLICY_SETTINGS})
        of_policy = {key: value for key, value in settings.items() if key in POLICY_SETTINGS}
        one_update(models / of_policy.pop("model", "tied"), parallel, of_policy, out, name)
        dist.barrier()
        parallel_state.destroy_model_parallel()
    stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

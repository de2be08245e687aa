"""Brings Megatron-core up on our process group: the CPU shim where it is needed, its groups, its random state."""

from datetime import timedelta

import torch
from megatron.core import parallel_state, tensor_parallel

from srpo_fast.parallel import HANG_TIMEOUT, Parallel
from srpo_fast.policy import cpu_shim


def start_megatron(parallel: Parallel, seed: int) -> None:
    """Idempotent. Asserts that Megatron numbers the ranks as we do."""
    if parallel.device.type == "cpu":
        cpu_shim.install()
    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=parallel.tp,
            pipeline_model_parallel_size=parallel.pp,
            context_parallel_size=parallel.cp,
            virtual_pipeline_model_parallel_size=parallel.chunks_per_stage if parallel.chunks_per_stage > 1 else None,
            distributed_timeout_minutes=HANG_TIMEOUT // timedelta(minutes=1),  # NCCL ends a rank then, saying little
        )
        tensor_parallel.model_parallel_cuda_manual_seed(seed)
    ours = (parallel.tp_rank, parallel.cp_rank, parallel.pp_rank, parallel.dp_rank)
    theirs = (
        parallel_state.get_tensor_model_parallel_rank(),
        parallel_state.get_context_parallel_rank(),
        parallel_state.get_pipeline_model_parallel_rank(),
        parallel_state.get_data_parallel_rank(),
    )
    assert ours == theirs, f"rank numbering differs: (tp, cp, pp, dp) ours {ours}, Megatron's {theirs}"
    torch.manual_seed(seed)

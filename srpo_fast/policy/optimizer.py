"""The optimizer of an update: Megatron's as it is, or with our economical AdamW inside.

Megatron's distributed optimizer knows parameters whose fp32 masters are inside its Adam and whose gradients lie beside
them in fp32, but only for TransformerEngine's Adam, for which its settings look. That one derived setting is therefore
made here, and the Adam exchanged before it has a state. Without the distributed optimizer Megatron keeps whole fp32
copies of bf16 weights in a class of its own, which WholeParameters takes the place of.
"""

from dataclasses import replace
from typing import Any

import torch
from megatron.core.optimizer import MegatronOptimizer, get_megatron_optimizer
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
from megatron.core.optimizer.optimizer import FP32Optimizer
from megatron.core.transformer.transformer_config import TransformerConfig

from srpo_fast.config import OptimizerConfig
from srpo_fast.parallel import Parallel
from srpo_fast.policy.adamw import MASTER, EconomicAdamW
from srpo_fast.policy.hf_directory import torch_dtype

MASTER_DTYPES = {"full": torch.float32, "remainder": torch.int16}


class WholeParameters(FP32Optimizer):
    """Of bf16 parameters not shared among data-parallel ranks, for an Adam that has their masters."""

    @torch.no_grad()
    def prepare_grads(self) -> bool:
        for parameter in self.get_parameters():
            parameter.decoupled_grad = parameter.main_grad  # type: ignore[attr-defined]
        return False

    def sharded_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """With remainders under a name of their own: read as fp32 masters they would be nonsense."""
        state = super().sharded_state_dict(*args, **kwargs)
        for of_parameter in state["state"].values():
            if isinstance(of_parameter, dict) and of_parameter[MASTER].data.dtype == torch.int16:
                master = of_parameter[MASTER]
                of_parameter[MASTER] = replace(master, key=master.key.replace(MASTER, "master_remainder", 1))
        return state


def make_optimizer(
    settings: OptimizerConfig, config: TransformerConfig, parallel: Parallel, ddp: list[Any]
) -> MegatronOptimizer:
    """With an empty state, over the gradient buffers of `ddp`."""
    if not settings.is_economical:
        return get_megatron_optimizer(_megatron_settings(settings, config, parallel, bf16=config.bf16), ddp)
    # bf16 without the distributed optimizer would make Megatron copy all weights in fp32 first
    megatron_settings = _megatron_settings(settings, config, parallel, bf16=False)
    megatron_settings.use_precision_aware_optimizer_no_fp8_or_ds_fp8 = config.bf16  # type: ignore[attr-defined]
    with torch.no_grad():  # its shards of fp32 weights are then leaves, which torch's optimizers want
        optimizer = get_megatron_optimizer(megatron_settings, ddp)
    (inner,) = optimizer.chained_optimizers
    adam = EconomicAdamW(
        inner.optimizer.param_groups, inner.optimizer.defaults, offload=settings.offload,
        master_dtype=MASTER_DTYPES[settings.master_weights], moment_dtype=torch_dtype(settings.moments),
    )  # fmt: skip
    if config.bf16 and not parallel.distributed_optimizer:
        whole = WholeParameters(adam, megatron_settings, inner.init_state_fn)
        whole.grad_stats_parallel_group, whole.tp_group = inner.grad_stats_parallel_group, inner.tp_group
        optimizer.chained_optimizers[0] = whole
    else:
        inner.optimizer = adam
    return optimizer


def _megatron_settings(
    settings: OptimizerConfig, config: TransformerConfig, parallel: Parallel, *, bf16: bool
) -> MegatronOptimizerConfig:
    return MegatronOptimizerConfig(
        optimizer="adam",
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        clip_grad=settings.grad_clip,
        bf16=bf16,
        params_dtype=config.params_dtype,
        use_distributed_optimizer=parallel.distributed_optimizer,
    )

"""The policy: vision tower, language model and optimizer behind the few verbs the loop needs."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import MegatronOptimizer, get_megatron_optimizer
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer.transformer_layer import get_transformer_layer_offset
from torch import Tensor

from srpo_fast.batch import MicroBatch
from srpo_fast.config import OptimizerConfig
from srpo_fast.loss import Head, LossFunction, is_maximum, logprobs_only
from srpo_fast.packing import PackedBatch
from srpo_fast.parallel import Parallel, max_over_world, sum_over_world
from srpo_fast.policy import cpu_shim
from srpo_fast.policy.hf_directory import HFDirectory, torch_dtype
from srpo_fast.policy.language_model import build_language_model
from srpo_fast.policy.megatron_start import start_megatron
from srpo_fast.policy.name_map import HeadLayout, rule_for
from srpo_fast.policy.reference import copy_into, host_copy, swapped_in
from srpo_fast.policy.vision import VisionTower


class Policy:
    """This rank's part of the model. `version` counts the optimizer steps its weights have seen."""

    def __init__(
        self, model_dir: Path, *, dtype: str, seed: int, parallel: Parallel, banned_ids: tuple[int, ...],
        temperature: float,
    ) -> None:  # fmt: skip
        self.source = HFDirectory(model_dir)
        self.parallel = parallel
        self.version = 0
        self.optimizer: MegatronOptimizer | None = None
        self._reference: dict[str, Tensor] | None = None
        start_megatron(parallel, seed)
        text_config = self.source.config.text_config
        self._layout = HeadLayout(text_config.num_attention_heads, text_config.num_key_value_heads)
        self._tied = self.source.config.tie_word_embeddings  # of the whole model: text_config may lack it
        self.language_model = build_language_model(text_config, torch_dtype(dtype), parallel, tied=self._tied)
        self._load_language_model()
        on_first_stage = parallel.pp_rank == 0
        self.vision = VisionTower(self.source, torch_dtype(dtype), parallel.device) if on_first_stage else None
        self._ddp = self._wrap()
        self.head = Head(
            vocab_start=parallel.tp_rank * (text_config.vocab_size // parallel.tp),
            group=parallel_state.get_tensor_model_parallel_group() if parallel.tp > 1 else None,
            banned_ids=torch.tensor(banned_ids, dtype=torch.int64, device=parallel.device),
            temperature=temperature,
        )

    # --- training ---

    def new_optimizer(self, settings: OptimizerConfig) -> None:
        """Starts a fresh optimizer state; SFT and SRPO each have their own."""
        megatron_settings = MegatronOptimizerConfig(
            optimizer="adam",
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            adam_beta1=settings.betas[0],
            adam_beta2=settings.betas[1],
            clip_grad=settings.grad_clip,
            bf16=self.language_model.config.bf16,
            params_dtype=self.language_model.config.params_dtype,
            use_distributed_optimizer=False,
        )
        with self._optimizer_names():
            self.optimizer = get_megatron_optimizer(megatron_settings, [self._ddp])

    def drop_optimizer(self) -> None:
        """Ends a stage: its optimizer state is neither kept nor saved."""
        self.optimizer = None

    def forward_backward(self, batch: PackedBatch, loss: LossFunction) -> dict[str, float]:
        """Accumulates the gradient of one update; returns the loss's metrics over all micro-batches and ranks.

        They are summed, but for those of which is_maximum says otherwise.
        """
        self._ddp.zero_grad_buffer()
        self.language_model.zero_grad()  # a step leaves .grad on these buffers, which would then count twice
        return self._total_metrics(self._run(batch, loss, forward_only=False))

    def logprobs(self, batch: PackedBatch) -> list[Tensor | None]:
        """The log-probs [R] fp32 of each micro-batch's labels; None on stages before the last."""
        with torch.no_grad():
            results = self._run(batch, logprobs_only, forward_only=True)
        return [r["logprobs"] for r in results] or [None] * len(batch.micro_batches)

    def keep_reference(self) -> None:
        """Makes the weights as they are now those of the reference policy."""
        self._reference = host_copy(self._named_parameters(with_tied_copy=True))

    def reference_logprobs(self, batch: PackedBatch) -> list[Tensor | None]:
        """`logprobs` of the reference policy."""
        assert self._reference is not None, "keep_reference comes before reference_logprobs"
        with swapped_in(self._reference, self._named_parameters(with_tied_copy=True)):
            return self.logprobs(batch)

    def step(self, lr: float) -> float:
        """Applies the accumulated gradient at this learning rate; returns the gradient norm before clipping."""
        assert self.optimizer, "new_optimizer comes before step"
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self._optimizer_names():
            succeeded, grad_norm, _ = self.optimizer.step()
        assert succeeded, "Megatron skipped the optimizer step"
        self.version += 1
        return float(grad_norm)

    def _run(self, batch: PackedBatch, loss: LossFunction, *, forward_only: bool) -> list[dict[str, Tensor]]:
        features = self.vision.encode(batch.image_prompts) if self.vision else None

        def forward(batches: Iterator[MicroBatch], model: Any) -> tuple[Tensor, Any]:
            micro_batch = next(batches).to(self.parallel.device)
            output = model(micro_batch, features)
            return output, lambda logits: _with_count(*loss(micro_batch, logits, self.head))

        return get_forward_backward_func()(
            forward_step_func=forward,
            data_iterator=iter(batch.micro_batches),
            model=[self._ddp],
            num_microbatches=len(batch.micro_batches),
            seq_length=1,  # unread: lengths vary
            micro_batch_size=1,
            forward_only=forward_only,
        )

    def _total_metrics(self, results: list[dict[str, Tensor]]) -> dict[str, float]:
        """Each metric once: from the last stage, from one of its tensor-parallel ranks."""
        counts = self.parallel.is_last_stage and self.parallel.tp_rank == 0
        mine = {key: _total(key, results) if counts else 0.0 for key in results[0]} if results else {}
        if self.parallel.pp > 1:
            keys: list[Any] = [list(mine)]
            dist.broadcast_object_list(keys, src=self.parallel.world - 1)
            mine = {key: mine.get(key, 0.0) for key in keys[0]}
        sums = sum_over_world({k: v for k, v in mine.items() if not is_maximum(k)}, self.parallel)
        return sums | max_over_world({k: v for k, v in mine.items() if is_maximum(k)}, self.parallel)

    def _wrap(self) -> DistributedDataParallel:
        config = self.language_model.config
        config.finalize_model_grads_func = lambda models, *args, **kwargs: finalize_model_grads(models, None)
        ddp_config = DistributedDataParallelConfig(grad_reduce_in_fp32=True, use_distributed_optimizer=False)
        ddp = DistributedDataParallel(config, ddp_config, self.language_model)
        ddp.broadcast_params()
        return ddp

    def _optimizer_names(self) -> Any:
        return cpu_shim.cuda_type_names() if self.parallel.device.type == "cpu" else nullcontext()

    # --- state ---

    def state_dict(self) -> dict[str, Any]:
        """This rank's weights, version, optimizer state and reference; equal on data-parallel ranks."""
        with self._optimizer_names():
            optimizer = self.optimizer.state_dict() if self.optimizer else None
        weights = {name: p.detach() for name, p in self._named_parameters(with_tied_copy=True)}
        return {"version": self.version, "weights": weights, "optimizer": optimizer, "reference": self._reference}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict; an optimizer state needs new_optimizer before."""
        copy_into(self._named_parameters(with_tied_copy=True), state["weights"])
        self._reference = state["reference"]
        self.version = state["version"]
        if self.optimizer:
            with self._optimizer_names():
                self.optimizer.load_state_dict(state["optimizer"])

    # --- weights ---

    def hf_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every language tensor whole, under its Hugging Face name, on every rank; a collective over TP and PP."""
        for stage in range(self.parallel.pp):
            mine = stage == self.parallel.pp_rank
            tensors = list(self._own_hf_weights()) if mine else []
            if self.parallel.pp == 1:
                yield from tensors
            else:
                yield from self._broadcast_from_stage(stage, tensors)

    def _own_hf_weights(self) -> Iterator[tuple[str, Tensor]]:
        group = parallel_state.get_tensor_model_parallel_group()
        for name, parameter in self._named_parameters():
            rule, hf_names = rule_for(name, self._first_layer())
            shards = [parameter.detach()]
            if self.parallel.tp > 1:
                shards = [torch.empty_like(parameter) for _ in range(self.parallel.tp)]
                dist.all_gather(shards, parameter.detach().contiguous(), group=group)
            yield from zip(hf_names, rule.from_shards(shards, self._layout), strict=True)

    def _broadcast_from_stage(self, stage: int, tensors: list[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        group = parallel_state.get_pipeline_model_parallel_group()
        source = dist.get_global_rank(group, stage)
        layout: list[Any] = [[(name, t.shape, t.dtype) for name, t in tensors]]
        dist.broadcast_object_list(layout, src=source, group=group)
        for i, (name, shape, dtype) in enumerate(layout[0]):
            tensor = tensors[i][1].contiguous() if tensors else torch.empty(
                shape, dtype=dtype, device=self.parallel.device
            )  # fmt: skip
            dist.broadcast(tensor, src=source, group=group)
            yield name, tensor

    @torch.no_grad()
    def _load_language_model(self) -> None:
        self.language_model.to(self.parallel.device)
        for name, parameter in self._named_parameters(with_tied_copy=True):
            if name == "output_layer.weight" and self._tied:
                name = "embedding.word_embeddings.weight"
            rule, hf_names = rule_for(name, self._first_layer())
            tensors = [self.source.tensor(hf_name) for hf_name in hf_names]
            shard = rule.to_shards(tensors, self.parallel.tp, self._layout)[self.parallel.tp_rank]
            assert shard.shape == parameter.shape, f"{name}: {tuple(shard.shape)} for {tuple(parameter.shape)}"
            parameter.copy_(shard)
            # Megatron marks shards as it initialises them, which we skip; the gradient norm leaves unmarked ones out
            parameter.tensor_model_parallel = rule.is_cut  # type: ignore[attr-defined]

    def _named_parameters(self, with_tied_copy: bool = False) -> Iterator[tuple[str, Tensor]]:
        """The last stage's copy of a tied embedding belongs to the first stage and is left out by default."""
        for name, parameter in self.language_model.named_parameters():
            if with_tied_copy or not (name == "output_layer.weight" and self._tied):
                yield name, parameter

    def _first_layer(self) -> int:
        return get_transformer_layer_offset(self.language_model.config)


def _total(key: str, results: list[dict[str, Tensor]]) -> float:
    values = [result[key] for result in results]
    return float(max(values)) if is_maximum(key) else float(sum(values))


def _with_count(loss: Tensor, metrics: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Megatron's triple; the count is unread because the token weights already normalise."""
    return loss, torch.ones((), dtype=torch.int, device=loss.device), metrics

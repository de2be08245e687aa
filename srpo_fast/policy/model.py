"""The policy: vision tower, language model and optimizer behind the few verbs the loop needs."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import MegatronOptimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from srpo_fast.batch import MicroBatch, Prompt
from srpo_fast.config import OptimizerConfig
from srpo_fast.loss import Head, LossFunction, is_maximum, logprobs_only
from srpo_fast.packing import PackedBatch
from srpo_fast.parallel import Parallel, max_over_world, sum_over_world
from srpo_fast.policy import cpu_shim
from srpo_fast.policy.hf_directory import HFDirectory, torch_dtype
from srpo_fast.policy.hf_weights import HFWeights
from srpo_fast.policy.language_model import LanguageModel, build_language_model, vocab_shard
from srpo_fast.policy.megatron_start import start_megatron
from srpo_fast.policy.optimizer import make_optimizer
from srpo_fast.policy.reference import host_copy, swapped_in
from srpo_fast.policy.rows import empty_like, loss_rows_of_rank, padded_length, share_of_rank
from srpo_fast.policy.sharded_state import (
    load_optimizer,
    load_reference,
    sharded_optimizer,
    sharded_reference,
    sharded_weights,
)
from srpo_fast.policy.vision import VisionTower


class NotFinite(RuntimeError):
    """The gradient is not a number, or infinite."""


class Policy:
    """This rank's part of the model. `version` counts the optimizer steps its weights have seen."""

    def __init__(
        self, model_dir: Path, *, dtype: str, seed: int, parallel: Parallel, banned_ids: tuple[int, ...],
        temperature: float, recompute: str = "none", train_vision: bool = False,
    ) -> None:  # fmt: skip
        self.source = HFDirectory(model_dir)
        self.parallel = parallel
        self.version = 0
        self.optimizer: MegatronOptimizer | None = None
        self._reference: dict[str, Tensor] | None = None
        start_megatron(parallel, seed)
        text_config = self.source.config.text_config
        tied = self.source.config.tie_word_embeddings  # of the whole model: text_config may lack it
        chunks = build_language_model(text_config, torch_dtype(dtype), parallel, tied=tied, recompute=recompute)
        self.language_model = nn.ModuleList(chunks).to(parallel.device)  # one a stage, unless stages are interleaved
        self._hf_weights = HFWeights(self.source, self.language_model, parallel)
        self._hf_weights.load()
        self.trains_vision = train_vision
        self._trained_features: tuple[Sequence[Prompt], Tensor] | None = None  # of the update under way
        trains_here = train_vision and parallel.pp_rank == 0
        self.vision = VisionTower(self.source, torch_dtype(dtype), parallel, trained=trains_here)
        if trains_here:
            chunks[0].visual = self.vision.module  # a part of what is trained, saved and synced
        self._ddp = [self._wrap(chunk) for chunk in chunks]
        self.vocab = vocab_shard(text_config.vocab_size, banned_ids, temperature, parallel)

    # --- training ---

    def new_optimizer(self, settings: OptimizerConfig) -> None:
        """Starts a fresh optimizer state; SFT and SRPO each have their own."""
        with self._optimizer_names():
            self.optimizer = make_optimizer(settings, self._config, self.parallel, self._ddp)

    def drop_optimizer(self) -> None:
        """Ends a stage: its optimizer state is neither kept nor saved."""
        self.optimizer = None

    def forward_backward(self, batch: PackedBatch, loss: LossFunction) -> dict[str, float]:
        """Accumulates the gradient of one update; returns the loss's metrics over all micro-batches and ranks.

        They are summed, but for those of which is_maximum says otherwise.
        """
        for ddp in self._ddp:
            ddp.zero_grad_buffer()
        self.language_model.zero_grad()  # a step leaves .grad on these buffers, which would then count twice
        return self._total_metrics(self._run(batch, loss, forward_only=False))

    def logprobs(self, batch: PackedBatch) -> list[Tensor | None]:
        """The log-probs [R] fp32 of each micro-batch's labels; None on stages before the last."""
        with torch.no_grad():
            results = self._run(batch, logprobs_only, forward_only=True)
        if not results:
            return [None] * len(batch.micro_batches)
        pairs = zip(batch.micro_batches, results, strict=False)  # schedules may add empty micro-batches at the end
        return [self._of_all_context_ranks(micro_batch, result["logprobs"]) for micro_batch, result in pairs]

    def keep_reference(self) -> None:
        """Makes the weights as they are now those of the reference policy."""
        self._reference = host_copy(self.language_model.named_parameters())

    def reference_logprobs(self, batch: PackedBatch) -> list[Tensor | None]:
        """`logprobs` of the reference policy."""
        assert self._reference is not None, "keep_reference comes before reference_logprobs"
        with swapped_in(self._reference, self.language_model.named_parameters()):
            return self.logprobs(batch)

    def step(self, lr: float) -> float:
        """Applies the accumulated gradient at this learning rate; returns the gradient norm before clipping.

        Raises NotFinite, on every rank, when that is none: no checkpoint may have what came of it.
        """
        assert self.optimizer, "new_optimizer comes before step"
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self._optimizer_names():
            succeeded, grad_norm, _ = self.optimizer.step()
        assert succeeded, "Megatron skipped the optimizer step"
        self.version += 1
        if not math.isfinite(grad_norm):  # Megatron looks for that in fp16 only
            raise NotFinite(
                f"update {self.version}: the gradient's norm is {float(grad_norm)}, and the weights are lost with it; "
                "the last checkpoint is intact. Look at the last steps' train/grad_norm and lower optimizer.lr or "
                "grad_clip"
            )
        return float(grad_norm)

    def _run(self, batch: PackedBatch, loss: LossFunction, *, forward_only: bool) -> list[dict[str, Tensor]]:
        features = None
        if self.parallel.pp_rank == 0:
            features = self.vision.features_of(batch.image_prompts, last_pass=not forward_only)
        if features is not None and features.requires_grad and not forward_only:
            self._trained_features = batch.image_prompts, features

        def forward(batches: Iterator[MicroBatch], model: Any) -> tuple[Tensor, Any]:
            micro_batch = next(batches)
            output = model(micro_batch, features)
            return output, lambda hidden: _with_count(*loss(micro_batch, hidden, self._head(forward_only=forward_only)))

        micro_batches, tokens = self._scheduled(batch.micro_batches)
        micro_batches = [m.to(self.parallel.device) for m in micro_batches]  # now: a copy waits for all that is queued
        return get_forward_backward_func()(
            forward_step_func=forward,
            data_iterator=[iter(micro_batches) for _ in self._ddp],
            model=self._ddp,
            num_microbatches=len(micro_batches),
            seq_length=tokens,
            micro_batch_size=1,
            forward_only=forward_only,
        )

    def _head(self, *, forward_only: bool) -> Head:
        """The last stage's. Its gradient is added where Megatron sums gradients, which `grad_added_to_main_grad` must
        not say: a tied embedding's own gradient is still to be added there when autograd has it."""
        weight = self.language_model[-1].head_weight
        return Head(weight=weight, weight_grad=None if forward_only else weight.main_grad, vocab=self.vocab)

    def _scheduled(self, micro_batches: Sequence[MicroBatch]) -> tuple[list[MicroBatch], int]:
        """This rank's shares of them, and the tokens of each before they were shared.

        Interleaved stages want a multiple of the stages, which empty ones fill up, and all of the same length: between
        two stages Megatron mixes up the lengths that travel forward with those that travel back.
        """
        if self.parallel.chunks_per_stage == 1:
            return [share_of_rank(m, self.parallel) for m in micro_batches], 1  # unread: lengths vary
        filled = [*micro_batches, *[empty_like(micro_batches[0])] * (-len(micro_batches) % self.parallel.pp)]
        longest = padded_length(max(len(m.input_ids) for m in micro_batches), self.parallel)
        return [share_of_rank(m, self.parallel, longest) for m in filled], longest

    def _of_all_context_ranks(self, batch: MicroBatch, mine: Tensor) -> Tensor:
        """Per-row values [R] of a whole micro-batch from those of the rows that each context-parallel rank scores."""
        if self.parallel.cp == 1:
            return mine
        values = mine.new_zeros(len(batch.loss_rows))
        values[loss_rows_of_rank(batch, self.parallel).to(mine.device)] = mine
        dist.all_reduce(values, group=parallel_state.get_context_parallel_group())
        return values

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

    def _wrap(self, chunk: LanguageModel) -> DistributedDataParallel:
        chunk.config.finalize_model_grads_func = self._finalize_gradients
        ddp_config = DistributedDataParallelConfig(
            grad_reduce_in_fp32=True, use_distributed_optimizer=self.parallel.distributed_optimizer
        )
        ddp = DistributedDataParallel(chunk.config, ddp_config, chunk)
        ddp.broadcast_params()
        return ddp

    def _finalize_gradients(self, models: list[Any], *args: Any, **kwargs: Any) -> None:
        """After the last micro-batch's backward pass, before ranks add up their gradients."""
        if self._trained_features:
            self.vision.backward(*self._trained_features)
            self._trained_features = None
        finalize_model_grads(models, None)

    @property
    def _config(self) -> TransformerConfig:
        return self.language_model[0].config

    def _optimizer_names(self) -> Any:
        return cpu_shim.cuda_type_names() if self.parallel.device.type == "cpu" else nullcontext()

    # --- state ---

    def sharded_state_dict(self, *, is_loading: bool = False) -> dict[str, Any]:
        """Weights, version, optimizer state and reference as Megatron shards them; a collective.

        is_loading: as the template of what to read: an optimizer state and a reference where there are such by now.
        """
        state: dict[str, Any] = {"version": self.version, "weights": sharded_weights(self.language_model)}
        if self._reference is not None:
            state["reference"] = sharded_reference(state["weights"], self._reference)
        if self.optimizer:
            with self._optimizer_names():
                state["optimizer"] = sharded_optimizer(self.optimizer, state["weights"], is_loading=is_loading)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what was read for the template of sharded_state_dict."""
        self.version = state["version"]
        for number, chunk in enumerate(self.language_model):
            chunk.load_state_dict(state["weights"][f"chunk{number}"])
        if self._reference is not None:
            load_reference(self._reference, state["reference"])
        if self.optimizer:
            with self._optimizer_names():
                load_optimizer(self.optimizer, state["optimizer"])

    # --- weights ---

    def shards(self) -> Iterator[tuple[tuple[str, ...], nn.Parameter]]:
        """What is trained on this rank, live, and the Hugging Face names of what is cut and stacked in each."""
        for _, hf_names, parameter in self._hf_weights.parameters():
            yield hf_names, parameter

    def tower_parameters(self) -> dict[str, nn.Parameter]:
        """This rank's copy of a trained vision tower, live, by Hugging Face names; nothing of a frozen one."""
        return {f"visual.{name}": p for name, p in self.vision.module.named_parameters()} if self.trains_vision else {}

    @property
    def stage_group(self) -> dist.ProcessGroup:
        """The ranks that hold the stages of one model."""
        return parallel_state.get_pipeline_model_parallel_group()

    def hf_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Every trained tensor whole, under its Hugging Face name, on every rank; a collective over TP and PP."""
        return self._hf_weights.gathered()


def _total(key: str, results: list[dict[str, Tensor]]) -> float:
    values = [result[key] for result in results]
    return float(max(values)) if is_maximum(key) else float(sum(values))


def _with_count(loss: Tensor, metrics: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Megatron's triple; the count is unread because the token weights already normalise."""
    return loss, torch.ones((), dtype=torch.int, device=loss.device), metrics

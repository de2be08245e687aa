"""The ways of computing the head's loss and gradients: ours, PyTorch's, and those of other libraries where installed.

A variant is run as a user of its library would: the loss's gradient with respect to hidden states and output layer.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ops.workloads import OBJECTIVE, HeadCase
from srpo_kernels import srpo_head, srpo_objective
from srpo_kernels.objective_rows import ObjectiveRows
from srpo_kernels.reference.head import chosen_rows, kept_rows
from srpo_kernels.vocab_shard import VocabShard


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a variant makes of a case."""

    loss: Tensor  # scalar
    dhidden: Tensor  # [T, D]
    dweight: Tensor  # [V, D]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    name: str
    run: Callable[[], Step] | None  # None: it cannot run here
    skipped: str = ""  # then why


def head_variants(case: HeadCase) -> Iterator[Variant]:
    """Ours first."""
    yield Variant(name="ours", run=_ours(case))
    yield Variant(name="torch", run=functools.partial(_by_autograd, case, _compacted_loss(case)))
    yield Variant(name="torch_live_rows", run=functools.partial(_by_autograd, case, _live_loss(case)))
    yield Variant(name="torch_full_logits", run=functools.partial(_by_autograd, case, _full_logits_loss(case)))
    # with fixed shapes, as a training step that pads has them
    compiled = torch.compile(_compacted_loss(case), dynamic=False)
    yield Variant(name="torch_compile", run=functools.partial(_by_autograd, case, compiled))
    yield _liger_chunked(case)
    yield _liger_triton(case)
    yield _trl(case)


def _ours(case: HeadCase) -> Callable[[], Step]:
    """As the trainer calls it: the weight's gradient is added to a buffer that lives as long as the weight.

    After the first call it holds more than one gradient, as after a micro-batch. On a GPU rows without a gradient are
    dropped beforehand, where the trainer makes the batch; on a CPU the head drops them.
    """
    rows, loss_rows, labels = case.rows, case.loss_rows, case.labels
    if case.hidden.device.type == "cuda":
        kept = kept_rows(rows, OBJECTIVE)
        rows, loss_rows, labels = chosen_rows(rows, kept), loss_rows[kept], labels[kept]
    weight_grad = torch.zeros_like(case.weight, dtype=torch.float32)

    def run() -> Step:
        hidden = case.hidden.detach().requires_grad_()
        found = srpo_head(
            hidden, case.weight, loss_rows, labels, rows, objective=OBJECTIVE, vocab=VocabShard(),
            weight_grad=weight_grad,
        )  # fmt: skip
        found.loss.backward()
        assert hidden.grad is not None
        return Step(loss=found.loss.detach(), dhidden=hidden.grad, dweight=weight_grad)

    return run


Loss = Callable[[Tensor, Tensor], Tensor]


def _by_autograd(case: HeadCase, loss_of: Loss) -> Step:
    hidden, weight = case.hidden.detach().requires_grad_(), case.weight.detach().requires_grad_()
    loss = loss_of(hidden, weight)
    loss.backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return Step(loss=loss.detach(), dhidden=hidden.grad, dweight=weight.grad)


def _objective_of(rows: ObjectiveRows, logprobs: Tensor) -> Tensor:
    assert rows.old_logprobs is not None
    return srpo_objective(
        logprobs, rows.old_logprobs, rows.rollout_logprobs, rows.advantages, rows.token_weights, objective=OBJECTIVE,
        row_offsets=rows.row_offsets,
    )[0]  # fmt: skip


def _compacted_loss(case: HeadCase) -> Loss:
    """What a careful trainer does: only rows with a label reach the output layer."""
    return _loss_of_rows(case.rows, case.loss_rows, case.labels)


def _live_loss(case: HeadCase) -> Loss:
    """The best that a few lines of PyTorch can do: only rows that have a gradient reach it."""
    kept = kept_rows(case.rows, OBJECTIVE)
    return _loss_of_rows(chosen_rows(case.rows, kept), case.loss_rows[kept], case.labels[kept])


def _loss_of_rows(rows: ObjectiveRows, loss_rows: Tensor, labels: Tensor) -> Loss:

    def loss_of(hidden: Tensor, weight: Tensor) -> Tensor:
        logprobs = -F.cross_entropy((hidden[loss_rows] @ weight.T).float(), labels, reduction="none")
        return _objective_of(rows, logprobs)

    return loss_of


def _full_logits_loss(case: HeadCase) -> Loss:
    """What a model's own forward pass and a mask come to."""
    rows, loss_rows, token_ids = case.rows, case.loss_rows, case.token_ids.flatten()

    def loss_of(hidden: Tensor, weight: Tensor) -> Tensor:
        logprobs = -F.cross_entropy((hidden @ weight.T).float(), token_ids, reduction="none")
        return _objective_of(rows, logprobs[loss_rows])

    return loss_of


def _liger_chunked(case: HeadCase) -> Variant:
    if importlib.util.find_spec("liger_kernel") is None:
        return Variant(name="liger_chunked", run=None, skipped="liger-kernel is not installed")
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    # a quarter of the sequences in a chunk: of 1, 8 and 32 of cpu_bar's 32, and 32 compiled, 8 was the fastest
    loss_module = LigerFusedLinearGRPOLoss(
        beta=0.0, compiled=False, use_ref_model=False, chunk_size=max(1, len(case.advantages) // 4), loss_type="bnpo"
    )

    def loss_of(hidden: Tensor, weight: Tensor) -> Tensor:
        loss, _ = loss_module(
            hidden.unflatten(0, case.token_ids.shape), weight, case.token_ids, case.mask.float(), case.advantages,
            old_per_token_logps=case.old_logprobs,
        )  # fmt: skip
        return loss

    return Variant(name="liger_chunked", run=functools.partial(_by_autograd, case, loss_of))


def _liger_triton(case: HeadCase) -> Variant:
    if importlib.util.find_spec("liger_kernel") is None:
        return Variant(name="liger_triton", run=None, skipped="liger-kernel is not installed")
    if case.hidden.device.type != "cuda":
        return Variant(name="liger_triton", run=None, skipped="its Triton kernels need a GPU")
    from liger_kernel.transformers.grpo_loss import triton_grpo_loss

    def loss_of(hidden: Tensor, weight: Tensor) -> Tensor:
        rows = F.pad(hidden.unflatten(0, case.token_ids.shape), (0, 0, 0, 1))  # it wants one more position
        loss, *_ = triton_grpo_loss(
            rows @ weight.T, case.old_logprobs, None, case.token_ids, case.advantages, case.mask.int(),
            temperature=1.0, beta=0.0, eps_low=0.2, eps_high=0.2, loss_type="bnpo", reduce=True,
        )  # fmt: skip
        return loss

    return Variant(name="liger_triton", run=functools.partial(_by_autograd, case, loss_of))


def _trl(case: HeadCase) -> Variant:
    """The log-probs of its GRPO trainer; the objective is the shared one."""
    if importlib.util.find_spec("trl") is None:
        return Variant(name="trl", run=None, skipped="trl is not installed")
    if torch.version.cuda is None:
        return Variant(name="trl", run=None, skipped="trl imports torchvision, which needs a torch built with CUDA")

    from trl.trainer.utils import selective_log_softmax  # type: ignore[import-not-found]

    rows, loss_rows, token_ids = case.rows, case.loss_rows, case.token_ids.flatten()

    def loss_of(hidden: Tensor, weight: Tensor) -> Tensor:
        return _objective_of(rows, selective_log_softmax(hidden @ weight.T, token_ids)[loss_rows])

    return Variant(name="trl", run=functools.partial(_by_autograd, case, loss_of))

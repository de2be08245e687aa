"""No time is reported for a wrong result: loss and gradients of every variant against fp64."""

import torch
from torch import Tensor

from benchmarks.ops.variants import Step
from benchmarks.ops.workloads import OBJECTIVE, HeadCase
from srpo_kernels import reference
from srpo_kernels.reference.head import chosen_rows
from srpo_kernels.vocab_shard import VocabShard

ROWS_AT_ONCE = 1_024  # fp64 logits of a whole batch of a large model would not fit

# of the largest element: a few fp32 roundings; in bf16 the logits of other libraries are rounded, 2^-8 of each
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


def true_step(case: HeadCase) -> Step:
    """In runs of rows: the objective is one of tokens, whose loss adds up."""
    hidden, weight = case.hidden.double().requires_grad_(), case.weight.double().requires_grad_()
    rows, loss_rows, labels = case.rows, case.loss_rows, case.labels
    loss = torch.zeros((), dtype=torch.float64, device=hidden.device)
    for some in torch.arange(len(labels), device=hidden.device).split(ROWS_AT_ONCE):
        found = reference.srpo_head(
            hidden, weight, loss_rows[some], labels[some], chosen_rows(rows, some), objective=OBJECTIVE,
            vocab=VocabShard(),
        )  # fmt: skip
        found.loss.backward()
        loss += found.loss.detach()
    assert hidden.grad is not None
    assert weight.grad is not None
    return Step(loss=loss, dhidden=hidden.grad, dweight=weight.grad)


def wrong_by(step: Step, truth: Step, dtype: torch.dtype) -> str | None:
    """What is not as it should be; None: nothing."""
    for name in ("loss", "dhidden", "dweight"):
        error = _error(getattr(step, name), getattr(truth, name))
        if not error <= TOLERANCE[dtype]:  # also catches NaN
            return f"{name} is off by {error:.1e} of its largest element, more than {TOLERANCE[dtype]:.0e}"
    return None


def _error(found: Tensor, true: Tensor) -> float:
    return float((found.double() - true).abs().max() / true.abs().max())

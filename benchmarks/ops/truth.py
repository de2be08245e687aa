"""No time is reported for a wrong result: loss and gradients of every variant against fp64."""

import torch
from torch import Tensor

from benchmarks.ops.variants import Step
from benchmarks.ops.workloads import OBJECTIVE, HeadCase
from srpo_kernels import reference
from srpo_kernels.vocab_shard import VocabShard

# of the largest element: a few fp32 roundings; in bf16 the logits of other libraries are rounded, 2^-8 of each
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


def true_step(case: HeadCase) -> Step:
    hidden, weight = case.hidden.double().requires_grad_(), case.weight.double().requires_grad_()
    found = reference.srpo_head(
        hidden, weight, case.loss_rows, case.labels, case.rows, objective=OBJECTIVE, vocab=VocabShard()
    )
    found.loss.backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return Step(loss=found.loss.detach(), dhidden=hidden.grad, dweight=weight.grad)


def wrong_by(step: Step, truth: Step, dtype: torch.dtype) -> str | None:
    """What is not as it should be; None: nothing."""
    for name in ("loss", "dhidden", "dweight"):
        error = _error(getattr(step, name), getattr(truth, name))
        if not error <= TOLERANCE[dtype]:  # also catches NaN
            return f"{name} is off by {error:.1e} of its largest element, more than {TOLERANCE[dtype]:.0e}"
    return None


def _error(found: Tensor, true: Tensor) -> float:
    return float((found.double() - true).abs().max() / true.abs().max())

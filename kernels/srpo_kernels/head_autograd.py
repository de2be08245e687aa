"""The head's loss as autograd sees it: gradients are made in the forward pass, the backward pass only scales them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from srpo_kernels.head_passes import HeadGradients, HeadRows, TermsOf, statistics_pass
from srpo_kernels.head_products import exact_dtype
from srpo_kernels.objective_rows import ObjectiveTerms

Passes = Callable[[HeadRows, TermsOf, HeadGradients], ObjectiveTerms]


def evaluate(
    hidden: Tensor, weight: Tensor, weight_grad: Tensor | None, head: HeadRows, terms_of: TermsOf, passes: Passes, *,
    with_entropy: bool,
) -> ObjectiveTerms:  # fmt: skip
    """The terms of all rows, whose loss is differentiable in hidden [T, D] and weight [V_tp, D].

    weight_grad: the weight's gradient goes there instead. Without autograd no gradient is computed.
    """
    if weight_grad is not None:
        weight = weight.detach().requires_grad_()  # the loss has a backward pass, in which the parameter has no part

    def run(gradients: HeadGradients) -> ObjectiveTerms:
        nothing_wanted = gradients.hidden is None and gradients.weight is None
        if nothing_wanted or len(head.rows) == 0:
            return terms_of(statistics_pass(head), slice(0, len(head.rows)))
        return passes(head, terms_of, gradients)

    if not torch.is_grad_enabled():
        return run(HeadGradients(hidden=None, weight=None, with_entropy=with_entropy))
    return _HeadLoss.apply(hidden, weight, weight_grad, head.rows, run, with_entropy)[1]


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, weight_grad: Tensor | None, rows: Tensor,
        run: Callable[[HeadGradients], ObjectiveTerms], with_entropy: bool,
    ) -> tuple[Tensor, ObjectiveTerms]:  # fmt: skip
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        sums = weight_grad
        if wants_weight and sums is None:
            sums = torch.zeros_like(weight, dtype=exact_dtype(weight))
        dhidden = hidden.new_zeros(len(rows), hidden.shape[1]) if wants_hidden else None
        terms = run(HeadGradients(hidden=dhidden, weight=sums if wants_weight else None, with_entropy=with_entropy))
        ctx.shape, ctx.dtype, ctx.is_added = hidden.shape, weight.dtype, weight_grad is not None
        ctx.save_for_backward(rows, dhidden, None if ctx.is_added else sums)
        return terms.loss, terms

    @staticmethod
    def backward(ctx: Any, dloss: Tensor, *_: object) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, dhidden, sums = ctx.saved_tensors
        if ctx.is_added:
            torch._assert_async(dloss == 1, "with weight_grad the loss enters the total as it is: once, unscaled")
        if dhidden is not None:
            dhidden = dhidden.new_zeros(ctx.shape).index_add_(0, rows, dhidden * dloss)  # a row may have two labels
        return dhidden, None if sums is None else (sums * dloss).to(ctx.dtype), None, None, None, None

"""Section: every kernel and product that only a GPU runs as it is, on sizes of real models, against fp64."""

from collections.abc import Callable, Iterator
from dataclasses import fields

import torch
from torch import Tensor

from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.operands import operands
from benchmarks.gpu_session.scale import Scale
from srpo_kernels import mrope, reference, triton_rows
from srpo_kernels.head_products import add_product, logits_into
from srpo_kernels.reference import Distribution
from srpo_kernels.vocab_shard import VocabShard


def correctness(scale: Scale) -> Iterator[Row]:
    """Errors of the largest element: a few 1e-6 in fp32 results, 4e-3 in those rounded to bf16."""
    for D, V in ((D, V) for D in scale.hidden_sizes for V in scale.vocabularies):
        hidden, weight, labels = operands(scale.checked_rows, D, V, scale)
        logits = hidden.double() @ weight.double().T
        yield {"op": "logits_into", "D": D, "V": V, "error": _error(_logits(hidden, weight), logits)}
        yield {"op": "add_product", "D": D, "V": V, "error": _error_of_sum(hidden, logits, scale)}
        yield from _of_rows(hidden, weight, logits, labels)
    yield {"op": "mrope", "error": _error_of_mrope(scale)}


def _of_rows(hidden: Tensor, weight: Tensor, logits: Tensor, labels: Tensor) -> Iterator[Row]:
    vocab, sizes = VocabShard(temperature=0.7), {"D": hidden.shape[1], "V": len(weight)}
    true = reference.row_statistics(logits, labels, vocab=vocab)
    found = triton_rows.linear_statistics(hidden, weight, labels, vocab=vocab)
    yield {"op": "linear_statistics", **sizes, "error": _error(found, true)}
    found = triton_rows.row_statistics(logits.float(), labels, vocab=vocab)
    yield {"op": "row_statistics", **sizes, "error": _error(found, true)}
    distribution = reference.merge_statistics(true[None])
    slopes = torch.randn_like(true[0]), torch.randn_like(true[0])
    exact = reference.row_gradient(logits, labels, distribution, *slopes, vocab=vocab, dtype=torch.float64)
    rounded = Distribution(**{f.name: getattr(distribution, f.name).float() for f in fields(distribution)})
    for dtype in (torch.float32, torch.bfloat16):
        made = triton_rows.row_gradient(
            logits.float(), labels, rounded, *(slope.float() for slope in slopes), vocab=vocab, dtype=dtype
        )
        yield {"op": f"row_gradient {dtype}", **sizes, "error": _error(made, exact)}


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    return logits_into(torch.empty(len(hidden), len(weight), device=hidden.device), hidden, weight)


def _error_of_sum(hidden: Tensor, logits: Tensor, scale: Scale) -> float:
    """Of two products added to one total."""
    dlogits = logits.to(scale.dtype)
    total = torch.zeros(dlogits.shape[1], hidden.shape[1], device=hidden.device)
    add_product(total, dlogits, hidden)
    add_product(total, dlogits, hidden)
    return _error(total, 2 * (dlogits.double().T @ hidden.double()))


def _error_of_mrope(scale: Scale) -> float:
    """Of turned queries and keys, and of their gradients."""
    given = [torch.randn(scale.checked_rows, heads, 128, device=scale.device).to(scale.dtype) for heads in (28, 4)]
    angles = torch.randn(scale.checked_rows, 1, 128, device=scale.device)
    given += [angles.cos().to(scale.dtype), angles.sin().to(scale.dtype)]
    found, true = _turned(mrope, *given), _turned(reference.mrope, *(x.double() for x in given))
    return max(_error(f, t) for f, t in zip(found, true, strict=True))


def _turned(operation: Callable[..., tuple[Tensor, Tensor]], *given: Tensor) -> list[Tensor]:
    """[query, key, dquery, dkey]; each output is weighed by its input."""
    query, key, cos, sin = given
    leaves = query.detach().requires_grad_(), key.detach().requires_grad_()
    outputs = operation(*leaves, cos, sin)
    return [*(output.detach() for output in outputs), *torch.autograd.grad(outputs, leaves, (query, key))]


def _error(found: Tensor, true: Tensor) -> float:
    """The largest, of the largest element."""
    return float((found.double() - true).abs().max() / true.abs().max())

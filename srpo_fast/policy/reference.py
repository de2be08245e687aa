"""The reference policy of the KL term: a copy of weights on the host that can stand in for the policy's own.

The parameters stay where they are and keep their identity, so that whatever wraps them (buckets, optimizer) goes on
unchanged; only their contents are exchanged, and after that every bit is as it was.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

NamedTensors = Iterable[tuple[str, Tensor]]


def host_copy(parameters: NamedTensors) -> dict[str, Tensor]:
    """The contents of these parameters, by name."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters}


@contextmanager
def swapped_in(weights: dict[str, Tensor], parameters: NamedTensors) -> Iterator[None]:
    """The parameters hold these weights inside, their own again after; both are on the host at the same time."""
    named = dict(parameters)
    own = host_copy(named.items())
    copy_into(named.items(), weights)
    try:
        yield
    finally:
        copy_into(named.items(), own)


@torch.no_grad()
def copy_into(parameters: NamedTensors, weights: dict[str, Tensor]) -> None:
    for name, parameter in parameters:
        parameter.copy_(weights[name])

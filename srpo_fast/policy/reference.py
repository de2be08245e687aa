"""The reference policy of the KL term: a copy of weights on the host that can stand in for the policy's own.

The parameters stay where they are and keep their identity, so that whatever wraps them (buckets, optimizer) goes on
unchanged; only their contents are exchanged, and after that every bit is as it was.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from srpo_fast.policy.host_state import HostMemory

NamedTensors = Iterable[tuple[str, Tensor]]


def host_copy(parameters: NamedTensors) -> dict[str, Tensor]:
    """The contents of these parameters, by name, in page-locked memory, from which a GPU fetches by itself."""
    named = {name: parameter.detach() for name, parameter in parameters}
    device = next(iter(named.values())).device
    memory = HostMemory(device)
    copies = {
        name: memory.empty(tensor.shape, tensor.dtype).copy_(tensor, non_blocking=True)
        for name, tensor in named.items()
    }
    torch.get_device_module(device).synchronize()  # for whoever reads them on the host
    return copies


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
        parameter.copy_(weights[name], non_blocking=True)

"""Page-locked memory of the host, and optimizer state that waits there and comes to the device in slices, each copied
while another is computed."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

State = dict[str, Tensor]  # of one slice: flat tensors of the same length

BLOCK_BYTES = 2**30


class HostMemory:
    """Tensors cut from large blocks: torch rounds every page-locked allocation up to a power of two."""

    def __init__(self, device: torch.device) -> None:
        self._pinned = device.type == "cuda"
        self._block = torch.empty(0, dtype=torch.uint8)

    def zeros(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        return self.empty(shape, dtype).zero_()

    def empty(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        size = shape.numel() * dtype.itemsize
        if size > len(self._block):
            self._block = torch.empty(max(BLOCK_BYTES, size), dtype=torch.uint8, pin_memory=self._pinned)
        own, self._block = self._block[:size], self._block[-(-size // 64) * 64 :]
        return own.view(dtype).view(shape)


def in_place(states: Sequence[State], device: torch.device) -> Iterator[State]:
    """The states themselves, which are on the device."""
    yield from states


def from_host(states: Sequence[State], device: torch.device) -> Iterator[State]:
    """Each state's copy on the device; what the caller makes of it is copied back once it asks for the next.

    Two buffers and a stream for either direction: while one slice is computed, the next comes and the last one goes.
    On a CPU streams and events do nothing, and the same copies happen in this order.
    """
    backend = torch.get_device_module(device)
    inward, outward = backend.Stream(), backend.Stream()
    inward.wait_stream(backend.current_stream())  # the buffers' memory may still be in use there
    buffers = [_buffer(states, device) for _ in range(2)]
    came, went = ([backend.Event() for _ in buffers] for _ in range(2))

    def bring(number: int) -> State:
        which = number % 2
        inward.wait_event(went[which])
        with backend.stream(inward):
            here = {
                name: buffers[which][name][: len(kept)].copy_(kept, non_blocking=True)
                for name, kept in states[number].items()
            }
            came[which].record(inward)
        return here

    coming = bring(0) if states else {}
    for number, kept in enumerate(states):
        here = coming
        if number + 1 < len(states):
            coming = bring(number + 1)
        backend.current_stream().wait_event(came[number % 2])
        yield here
        outward.wait_stream(backend.current_stream())
        with backend.stream(outward):
            for name, tensor in kept.items():
                tensor.copy_(here[name], non_blocking=True)
            went[number % 2].record(outward)
    for event in went:
        event.synchronize()  # the host's tensors may be saved next, the buffers given back


def _buffer(states: Sequence[State], device: torch.device) -> State:
    """Room for the longest slice of every kind."""
    longest: dict[str, Tensor] = {}
    for state in states:
        for name, kept in state.items():
            if name not in longest or len(kept) > len(longest[name]):
                longest[name] = kept
    return {name: torch.empty_like(kept, device=device, pin_memory=False) for name, kept in longest.items()}

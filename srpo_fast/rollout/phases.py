"""Who has the device's memory: the engine while it samples, or the policy while it trains.

    sampling -- begin_training() --> training    the KV cache's memory goes back to the device
    training -- begin_sampling() --> sampling    it is mapped again, at the same addresses, all zeros

A call in the phase that it would begin does nothing. The engine's weights stay where they are in both. Every edge
counts what it moved: a cache that is asleep in name only would show as an out-of-memory error much later, elsewhere.
"""

import gc
from collections.abc import Mapping
from typing import Literal, Protocol

import torch

from srpo_fast.config import ConfigError, RolloutConfig

NEARLY = 0.95  # of the cache's bytes; another process on the device may take or give some meanwhile
GIB = 2**30


class PhaseError(RuntimeError):
    """A phase cannot begin, or the memory is not where it should be in it."""


class EngineMemory(Protocol):
    """Of the engine on this rank; vllm_touch_points.py has vLLM's."""

    def is_busy(self) -> bool: ...

    def kv_cache_bytes(self) -> int: ...

    def weights(self) -> Mapping[str, tuple[int, int]]:
        """Address and bytes of every parameter."""

    def release_kv_cache(self) -> None: ...

    def map_kv_cache(self) -> None: ...


class DeviceMemory(Protocol):
    """Bytes of this rank's device."""

    def free(self) -> int: ...

    def held_beside_torch(self) -> int:
        """In use, less what torch's allocator has: what that keeps or gives back does not change it, a mapping does."""

    def give_back(self) -> None:
        """Makes torch's allocator return what no tensor uses."""


class Phases(Protocol):
    def begin_training(self) -> None: ...

    def begin_sampling(self) -> None: ...

    def metrics(self) -> dict[str, float]: ...


class OnePhase:
    """Of an engine whose KV cache is resident: there is nothing to move."""

    def begin_training(self) -> None: ...

    def begin_sampling(self) -> None: ...

    def metrics(self) -> dict[str, float]:
        return {}


class TwoPhases:
    """Of an engine whose KV cache sleeps while the policy trains. Neither edge is a collective."""

    def __init__(self, engine: EngineMemory, device: DeviceMemory) -> None:
        self._engine, self._device = engine, device
        self.phase: Literal["sampling", "training"] = "sampling"
        self._weights: Mapping[str, tuple[int, int]] = {}  # where they were when the last edge began
        self._left_free: dict[str, float] = {}

    def begin_training(self) -> None:
        """Raises PhaseError while requests are under way: their keys and values would be lost."""
        if self.phase == "training":
            return
        if self._engine.is_busy():
            raise PhaseError("the policy cannot train yet: the engine has requests under way; read them all first")
        size, before = self._begin_edge()
        self._engine.release_kv_cache()
        self.phase = "training"
        self._check("gave back", size, before - self._device.held_beside_torch())

    def begin_sampling(self) -> None:
        """Raises PhaseError, with the cache still asleep, where the device has no room for it."""
        if self.phase == "sampling":
            return
        size, before = self._begin_edge()
        self._make_room(size)
        self._engine.map_kv_cache()
        self.phase = "sampling"
        self._check("took", size, self._device.held_beside_torch() - before)

    def metrics(self) -> dict[str, float]:
        """GiB of this rank's device that the last phase of each kind left free as it ended, torch's cache not free."""
        return {f"memory/free_after_{phase}_gib": free for phase, free in self._left_free.items()}

    def _begin_edge(self) -> tuple[int, int]:
        """The cache's bytes, and those held beside torch so far."""
        self._left_free[self.phase] = self._device.free() / GIB
        self._weights = self._engine.weights()
        return self._engine.kv_cache_bytes(), self._device.held_beside_torch()

    def _make_room(self, size: int) -> None:
        self._device.give_back()
        if self._device.free() < size:
            gc.collect()  # tensors in cycles; it takes a while, and is seldom needed
            self._device.give_back()
        if (free := self._device.free()) < size:
            raise PhaseError(
                f"the engine cannot sample: its KV cache needs {size / GIB:.2f} GiB again and the device has "
                f"{free / GIB:.2f} free; lower rollout.kv_cache_gib, or set rollout.kv_cache=resident and lower "
                "optimizer.tokens_per_micro_batch. The last checkpoint is intact"
            )

    def _check(self, did: str, size: int, moved: int) -> None:
        if moved < NEARLY * size:
            raise PhaseError(
                f"the engine's KV cache of {size / GIB:.2f} GiB {did} {moved / GIB:.2f} GiB of the device as "
                f"{self.phase} began; set rollout.kv_cache=resident. The last checkpoint is intact"
            )
        now = self._engine.weights()
        moved_weights = [name for name in self._weights.keys() | now.keys() if self._weights.get(name) != now.get(name)]
        assert not moved_weights, f"{min(moved_weights)} of the engine moved as {self.phase} began"


class CudaMemory:
    """torch counts a sleeping cache as it does a mapped one, because it is not told."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free(self) -> int:
        return torch.cuda.mem_get_info(self._device)[0]

    def held_beside_torch(self) -> int:
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free - torch.cuda.memory_reserved(self._device)

    def give_back(self) -> None:
        torch.cuda.empty_cache()


def require_device(settings: RolloutConfig, device: torch.device) -> None:
    """Raises ConfigError where the KV cache cannot sleep."""
    if settings.kv_cache == "sleeps" and device.type != "cuda":
        raise ConfigError(
            f"rollout.kv_cache=sleeps needs a CUDA device, got {device.type}, whose memory vLLM cannot unmap; "
            "set rollout.kv_cache=resident"
        )

"""What an operation does, not how long it takes: matrix products, the largest tensor, collectives, host syncs."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_PRODUCTS = {"mm": 0, "addmm": 1, "addmm_": 1}  # by the place of the left factor among the arguments
_SYNCS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim"}


class WorkCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[int, int, int]] = []  # (m, k, n) of each [m, k] @ [k, n]
        self.largest = 0  # elements of the largest storage made
        self.collectives = 0
        self.host_syncs: list[str] = []  # what would wait for a GPU
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        namespace, name = func.namespace, func._schema.name.split("::")[1]
        if namespace == "aten" and name in _PRODUCTS:
            left, right = args[_PRODUCTS[name] : _PRODUCTS[name] + 2]
            self.products.append((left.shape[0], left.shape[1], right.shape[1]))
        self.collectives += namespace == "c10d"
        if name in _SYNCS or (name.startswith("index") and self._has_mask(args)) or self._repeats_unknown(name, kwargs):
            self.host_syncs.append(name)
        out = func(*args, **(kwargs or {}))
        inputs = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for made in tree_leaves(out):
            if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in inputs:
                self.largest = max(self.largest, made.untyped_storage().nbytes() // made.element_size())
        return out

    @staticmethod
    def _has_mask(args: Any) -> bool:
        indices = [t for t in tree_leaves(args[1:2]) if isinstance(t, Tensor)]
        return any(t.dtype == torch.bool for t in indices)

    @staticmethod
    def _repeats_unknown(name: str, kwargs: Any) -> bool:
        return name == "repeat_interleave" and (kwargs or {}).get("output_size") is None

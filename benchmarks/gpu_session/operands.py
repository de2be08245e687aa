"""What the sections share: operands, and times taken in turns."""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from benchmarks.ceilings import Probe
from benchmarks.gpu_session.journal import Row
from benchmarks.gpu_session.scale import Scale
from benchmarks.timing import Spread, time_in_turns


def operands(n: int, D: int, V: int, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
    """hidden [n, D], weight [V, D], labels [n]: logits of standard deviation 2."""
    hidden = torch.randn(n, D, device=scale.device).to(scale.dtype)
    weight = (torch.randn(V, D, device=scale.device) * (2 / D**0.5)).to(scale.dtype)
    return hidden, weight, torch.randint(V, (n,), device=scale.device)


def times(runs: Mapping[str, Callable[[], object]], scale: Scale) -> dict[str, list[float]]:
    settle = _settle_on(scale)
    return time_in_turns(runs, rounds=scale.rounds, min_timing_s=0.005, clock=time.perf_counter, settle=settle)


def seconds_of(run: Callable[[], object], scale: Scale) -> float:
    settle = _settle_on(scale)
    settle()
    begin = time.perf_counter()
    run()
    settle()
    return time.perf_counter() - begin


def _settle_on(scale: Scale) -> Callable[[], None]:
    return torch.cuda.synchronize if scale.device == "cuda" else lambda: None


def all_ms(seconds: dict[str, list[float]]) -> Row:
    spreads = {name: Spread.of([1e3 * s for s in values]) for name, values in seconds.items()}
    return {f"{name}_ms_{p}": getattr(spread, p) for name, spread in spreads.items() for p in ("p20", "p50", "p80")}


def rate(probe: Probe, scale: Scale) -> Row:
    seconds = times({"probe": probe.run}, scale)["probe"]
    return {"ms": 1e3 * Spread.of(seconds).p50, "per_s": probe.rate(seconds)}

"""How much memory a call needs beside what it is given and what it returns.

On a GPU that is the caching allocator's own high-water mark. On a CPU it is reckoned from the allocations that torch's
profiler records: every byte that torch's allocator hands out and takes back, also inside compiled code, in order. It
does not see what BLAS keeps for itself, and unlike the resident set it neither depends on pages that happened to be
warm nor on what the C library gives back.
"""

import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def extra_bytes(run: Callable[[], object], device: str) -> int:
    """The high-water mark of one call above what was allocated before, less what the result still holds."""
    run()  # whatever is kept for later calls is allocated here
    gc.collect()
    return _extra_on_cuda(run) if device == "cuda" else _extra_on_cpu(run)


def _extra_on_cuda(run: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    result = run()
    torch.cuda.synchronize()
    extra = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    del result
    return extra


def _extra_on_cpu(run: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = run()
    assert recorded.profiler is not None
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    del result
    return peak - held

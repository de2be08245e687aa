"""Where the time of a call goes, by the kernels' names."""

from collections.abc import Callable, Iterator

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_session.journal import Row

MOST = 25  # names that are written down


def kernel_times(run: Callable[[], object]) -> Iterator[Row]:
    """The kernels that took longest in one call, then the sum of all; without a GPU the operators on the CPU."""
    on_cuda = torch.cuda.is_available()
    run()
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]) as recorded:
        run()
        if on_cuda:
            torch.cuda.synchronize()
    wanted = DeviceType.CUDA if on_cuda else DeviceType.CPU
    events = [event for event in recorded.key_averages() if event.device_type == wanted]
    ms = {event.key: (event.self_device_time_total if on_cuda else event.self_cpu_time_total) / 1e3 for event in events}
    total = sum(ms.values())
    for event in sorted(events, key=lambda e: -ms[e.key])[:MOST]:
        yield {
            "kernel": event.key[:100], "calls": event.count, "ms": ms[event.key],
            "share": ms[event.key] / total if total else 0.0,
        }  # fmt: skip
    yield {"kernel": "all", "calls": sum(event.count for event in events), "ms": total, "share": 1.0}

"""Has this machine what a run needs?"""

import os
import resource
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from srpo_fast.doctor.finding import Finding, error, ok, warning
from srpo_fast.doctor.imports import find_torch, on_cuda

GIB = 2**30
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
LEAST_DISK_GIB, LEAST_MEMORY_GIB, LEAST_FILES = 5, 4, 4096
LEAST_SHARED_GIB = 1.0  # NCCL and data loaders; containers often have 64 MiB


def check_machine(folder: Path) -> Iterator[Finding]:
    yield from _devices()
    yield _memory()
    yield _disk(folder)
    yield _shared_memory()
    yield _open_files()


def _devices() -> Iterator[Finding]:
    torch = find_torch()
    if isinstance(torch, Finding):
        yield torch
        return
    if not torch.cuda.is_available():
        threads = os.environ.get("OMP_NUM_THREADS", "unset")
        yield ok("device", f"CPU, {os.cpu_count()} cores, OMP_NUM_THREADS={threads}")
        if NVIDIA_DRIVER.exists():
            says = f"an NVIDIA driver is here, but torch {torch.__version__} sees no GPU"
            needs = torch.version.cuda and f"update the driver to one for CUDA {torch.version.cuda}"
            yield error("device", says, needs or "make setup STACK=gpu VENV=/some/folder")
        return
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        says = f"{found.name}, {found.total_memory / GIB:.0f} GiB, sm_{found.major}{found.minor}"
        if found.major >= 9:
            yield ok(f"cuda:{index}", says)
        else:
            yield error(f"cuda:{index}", f"{says}: the head's kernels need 9.0", "use a Hopper GPU or a newer one")
    yield _compiler()


def _compiler() -> Finding:
    """Triton builds each kernel's launcher with it, the engine's and ours."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if found and header.is_file():
        return ok("C compiler", found)
    lacks = "no C compiler is found" if not found else f"{header} is not there"
    return error("C compiler", f"{lacks}: Triton cannot start a kernel", "apt-get install gcc python3.11-dev")


def _memory() -> Finding:
    found = _memory_in_kib()
    if not found:
        return warning("memory", "this system does not say how much it has", "see that a run's ranks have enough")
    free, total = found["MemAvailable"] * 1024 / GIB, found["MemTotal"] * 1024 / GIB
    says = f"{free:.1f} of {total:.1f} GiB free"
    if free >= LEAST_MEMORY_GIB:
        return ok("memory", says)
    return warning(
        "memory", says, f"the embedded run wants {LEAST_MEMORY_GIB} GiB; `srpo estimate` says what yours does"
    )


def _memory_in_kib() -> dict[str, int]:
    """What the kernel says; nothing where it is not Linux."""
    file = Path("/proc/meminfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return {name: int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines)}


def _disk(folder: Path) -> Finding:
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free / GIB
    if free >= LEAST_DISK_GIB:
        return ok("disk", f"{free:.0f} GiB free under {existing}")
    return warning("disk", f"{free:.1f} GiB free under {existing}", "a checkpoint of 7B takes 90 GiB: choose run.dir")


def _shared_memory() -> Finding:
    place = Path("/dev/shm")
    size = shutil.disk_usage(place).total / GIB if place.exists() else 0.0
    if size >= LEAST_SHARED_GIB or not on_cuda():
        return ok("/dev/shm", f"{size:.1f} GiB")
    return warning("/dev/shm", f"{size:.2f} GiB: NCCL may fail with several GPUs", "docker run --shm-size=8g")


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= LEAST_FILES:
        return ok("open files", str(soft))
    return warning("open files", f"at most {soft}", f"ulimit -n {LEAST_FILES}: many ranks and image files need them")

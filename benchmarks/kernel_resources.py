"""What every Triton kernel of the head compiles to for sm_90a: registers, spills, shared memory, instructions. No GPU.

    python -m benchmarks.kernel_resources [--write]     # --write: make these the golden figures that tests compare with

The kernels are launched as the trainer would, with tensors that have a shape but no data, and stopped once compiled.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from benchmarks.kernel_launches import LAUNCHES

GOLDEN = Path(__file__).parent / "results" / "sm_90a_resources.json"
TARGET = GPUTarget("cuda", 90, 32)
SHARED_LIMIT = 232_448  # bytes a program may have on an H100 or H200
_COSTS = ("registers", "stack", "shared", "local", "hmma")
_MERITS = ("hgmma", "tma_loads")
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    registers: int  # a thread
    stack: int  # bytes a thread, where registers spill to
    shared: int  # bytes a program
    local: int  # instructions that load or store spilled registers
    hgmma: int  # tensor-core instructions of Hopper
    hmma: int  # those of older GPUs
    tma_loads: int
    barriers: int  # this and the next are for information
    instructions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    kernel: str
    seconds: float
    resources: Resources


def compile_all(names: list[str] | None = None) -> dict[str, list[Compiled]]:
    """The kernels of each launch, by the launch's name, in the order they start."""
    return {name: compiled(LAUNCHES[name]) for name in names or LAUNCHES}


def compiled(launch: Callable[[], Any]) -> list[Compiled]:
    """Every kernel that a call launches, compiled anew and measured."""
    with _compiling_only() as kernels:
        launch()
    return [
        Compiled(kernel=kernel.metadata.name, seconds=seconds, resources=measured(kernel))
        for kernel, seconds in kernels
    ]


class _NoDevice:
    """What Triton asks of a driver to compile for a GPU that is not there."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return TARGET


@contextmanager
def _compiling_only() -> Iterator[list[tuple[CompiledKernel, float]]]:
    """Launches within compile for TARGET, without a cache, and are collected with their seconds instead of run.

    Seconds of processor time, the assembler's included: the machine may be busy with others.
    """
    kernels: list[tuple[CompiledKernel, float]] = []
    run, active = JITFunction.run, driver._active

    def compile_only(self: JITFunction, *args: Any, **kwargs: Any) -> None:
        self.device_caches.clear()
        start = sum(os.times()[:4])
        kernel = run(self, *args, **{**kwargs, "warmup": True})
        kernels.append((kernel, sum(os.times()[:4]) - start))
        self.device_caches.clear()

    with tempfile.TemporaryDirectory() as cache, triton.knobs.cache.scope():
        triton.knobs.cache.dir = cache
        driver.set_active(_NoDevice())
        JITFunction.run = compile_only
        try:
            yield kernels
        finally:
            JITFunction.run = run
            driver._active = active  # its reset would look for a GPU


def measured(kernel: CompiledKernel) -> Resources:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "-res-usage", file.name)
        code = _tool("nvdisasm", "-c", file.name)
    used = {name: int(value) for name, value in re.findall(r"\b(REG|STACK):(\d+)", usage)}
    opcodes = re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", code, re.MULTILINE)

    def count(*starts: str) -> int:
        return sum(opcode.startswith(starts) for opcode in opcodes)

    return Resources(
        registers=used["REG"], stack=used["STACK"], shared=kernel.metadata.shared, local=count("LDL", "STL"),
        hgmma=count("HGMMA"), hmma=count("HMMA"), tma_loads=count("UTMALDG"), barriers=count("BAR"),
        instructions=len(opcodes),
    )  # fmt: skip


def _tool(name: str, *args: str) -> str:
    return subprocess.run([_TOOLS / name, *args], check=True, capture_output=True, text=True).stdout


def golden() -> dict[str, Any]:
    """The golden resources of this version of Triton, by launch and kernel."""
    figures = json.loads(GOLDEN.read_text())
    version = triton.__version__
    assert version in figures, f"no golden figures of triton {version}: write them, `python -m {__name__} --write`"
    return figures[version]


def write_golden(figures: dict[str, Any]) -> None:
    others = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    GOLDEN.write_text(json.dumps(others | {triton.__version__: figures}, indent=1, sort_keys=True) + "\n")


def worsened(results: dict[str, list[Compiled]]) -> list[str]:
    """One line for each count that is worse than the golden one, and for each kernel that has none."""
    lines, figures = [], golden()
    for name, kernels in results.items():
        for c in kernels:
            was = figures.get(name, {}).get(c.kernel)
            if was is None:
                lines.append(f"{name}, {c.kernel}: no golden figures")
                continue
            is_now = asdict(c.resources)
            worse = [count for count in _COSTS if is_now[count] > was[count]]
            worse += [count for count in _MERITS if is_now[count] < was[count]]
            lines += [f"{name}, {c.kernel}: {count} was {was[count]}, is {is_now[count]}" for count in worse]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"into {GOLDEN.name}")
    write = parser.parse_args().write
    results = compile_all()
    print(f"{'launch':36} {'kernel':20} {'s':>5} {'regs':>5} {'stack':>5} {'shared':>7} {'HGMMA':>5} {'TMA':>4}")
    for name, kernels in results.items():
        for c in kernels:
            r = c.resources
            print(
                f"{name:36} {c.kernel:20} {c.seconds:5.1f} {r.registers:5} {r.stack:5} {r.shared:7} {r.hgmma:5} "
                f"{r.tma_loads:4}"
            )
    figures = {name: {c.kernel: asdict(c.resources) for c in kernels} for name, kernels in results.items()}
    if write:
        write_golden(figures)
    print(json.dumps({"triton": triton.__version__, "launches": figures}))


if __name__ == "__main__":
    main()

"""What devices can do, from their makers' data sheets: dense bf16 without sparsity, decimal units."""

from dataclasses import dataclass

from srpo_fast.config import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    name: str
    memory_gib: float  # usable, as the driver reports it
    tflops: float | None  # bf16 matrix products, accumulated in fp32; None: no time is predicted
    bandwidth_tbs: float  # of its memory, reads and writes together
    link_gbs: float  # to its neighbours in the machine, one direction

    @property
    def is_cpu(self) -> bool:
        return self.tflops is None


# NVLink's advertised figure counts both directions; link_gbs is half of it, for PCIe half of both directions
GPUS = {
    # NVIDIA H100 SXM5 data sheet: 989.4 TFLOP/s, 3.35 TB/s, NVLink 900 GB/s; 81,559 MiB
    "h100": Gpu(name="h100", memory_gib=79.6, tflops=989.4, bandwidth_tbs=3.35, link_gbs=450),
    # NVIDIA H200 SXM data sheet: 989.4 TFLOP/s, 4.8 TB/s, NVLink 900 GB/s; 143,771 MiB
    "h200": Gpu(name="h200", memory_gib=140.4, tflops=989.4, bandwidth_tbs=4.8, link_gbs=450),
    # H800 SXM: an H100 with NVLink 400 GB/s
    "h800": Gpu(name="h800", memory_gib=79.6, tflops=989.4, bandwidth_tbs=3.35, link_gbs=200),
    # H20 SXM: 148 TFLOP/s, 4.0 TB/s, NVLink 900 GB/s, 96 GB
    "h20": Gpu(name="h20", memory_gib=95.6, tflops=148, bandwidth_tbs=4.0, link_gbs=450),
    # NVIDIA A100 80GB SXM data sheet: 312 TFLOP/s, 2.039 TB/s, NVLink 600 GB/s; 81,920 MiB
    "a100": Gpu(name="a100", memory_gib=80.0, tflops=312, bandwidth_tbs=2.039, link_gbs=300),
    # NVIDIA DGX B200 data sheet, an eighth of it: 2.25 PFLOP/s, 8 TB/s, NVLink 1.8 TB/s, 180 GB
    "b200": Gpu(name="b200", memory_gib=178.0, tflops=2250, bandwidth_tbs=8.0, link_gbs=900),
    # NVIDIA L40S data sheet: 362 TFLOP/s, 864 GB/s, PCIe Gen4 x16 64 GB/s both ways, 48 GB
    "l40s": Gpu(name="l40s", memory_gib=45.0, tflops=362, bandwidth_tbs=0.864, link_gbs=32),
    # a process on a CPU: its memory is what the user gives it, and no time is predicted
    "cpu": Gpu(name="cpu", memory_gib=0.0, tflops=None, bandwidth_tbs=0.0, link_gbs=0.0),
}


def find_gpu(name: str | None, memory_gib: float | None) -> tuple[Gpu, float]:
    """The device and its GiB. Without a name: an H200 where more than 100 GiB are given, else an H100."""
    if memory_gib is not None and not 0 < memory_gib < float("inf"):
        raise UserError(f"expected --gpu-memory-gib with a number above 0, got {memory_gib:g}")
    if name is None:
        name = "h200" if memory_gib is not None and memory_gib > 100 else "h100"
    if name.lower() not in GPUS:
        raise UserError(f"expected --gpu to be one of {', '.join(GPUS)}, got {name}; take the nearest one")
    gpu = GPUS[name.lower()]
    if gpu.is_cpu and memory_gib is None:
        raise UserError("--gpu cpu needs --gpu-memory-gib: the memory that one process may use")
    return gpu, gpu.memory_gib if memory_gib is None else memory_gib

"""Run alone with a model directory, tp and tp_rank: imports that rank's slice and prints what it cost as JSON.

A process group of `tp` ranks that are not there: reading a slice is no collective.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from torch.testing._internal.distributed.fake_pg import FakeStore

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from srpo_fast.parallel import Parallel
from srpo_fast.policy.hf_directory import HFDirectory
from srpo_fast.policy.hf_weights import HFWeights
from srpo_fast.policy.language_model import build_language_model
from srpo_fast.policy.megatron_start import start_megatron


def resident(field: str) -> int:
    """Bytes, of files in memory too. VmRSS: now; VmHWM: at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def main(model_dir: Path, tp: int, tp_rank: int) -> None:
    dist.init_process_group("fake", store=FakeStore(), rank=tp_rank, world_size=tp)
    parallel_state.initialize_model_parallel(tp, create_gloo_process_groups=False)
    parallel = Parallel(rank=tp_rank, world=tp, tp=tp, pp=1, device=torch.device("cpu"))
    start_megatron(parallel, seed=0)
    source = HFDirectory(model_dir)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    chunks = build_language_model(source.config.text_config, torch.bfloat16, parallel, tied=False, recompute="none")
    HFWeights(source, chunks, parallel).load()
    parameters = list(chunks[0].parameters())
    print(
        json.dumps({
            "slice": sum(p.numel() * p.element_size() for p in parameters),
            "peak": resident("VmHWM") - before,
            "sum": sum(p.double().sum().item() for p in parameters),
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

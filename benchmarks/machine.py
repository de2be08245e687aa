"""What every benchmark says about where its figures come from."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

_ROOT = Path(__file__).parents[1]


def machine() -> dict[str, str | bool | int]:
    """What a measurement was made with: processor, versions, commit, time."""

    def git(*arguments: str) -> str:
        if shutil.which("git") is None:
            return ""
        result = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
        return result.stdout.strip()

    packed = _ROOT / "COMMIT"  # where there is no repository: benchmarks/gpu_session/pack.sh wrote it
    return {
        "kind": machine_kind(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": packed.read_text().strip() if packed.exists() else git("rev-parse", "--short", "HEAD"),
        "is_dirty": bool(git("status", "--porcelain")),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine_kind() -> str:
    """A folder's name for machines whose figures may be compared: the GPU's, or the processor's with its cores."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{_cpu_name()} {os.cpu_count()} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("(r)", "").replace("(tm)", "")).strip("-")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

"""What every benchmark says about where its figures come from."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch


def machine() -> dict[str, str | bool]:
    """What a measurement was made with: processor, versions, commit, time."""

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return result.stdout.strip()

    return {
        "cpu": _cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": git("rev-parse", "--short", "HEAD"),
        "is_dirty": bool(git("status", "--porcelain")),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

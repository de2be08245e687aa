"""Checkpoints: complete or absent, verified when read, refused when they do not fit.

A checkpoint is a folder step_N written under a temporary name, hashed into a manifest, then renamed. One file a
(tensor, pipeline) rank; the number of data-parallel ranks may change between save and load, tp and pp may not yet.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from srpo_fast.config import ConfigError
from srpo_fast.parallel import Parallel, barrier

KEEP = 2  # checkpoints left on disk
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything that determines the next step."""

    step: int  # steps done
    policy: dict[str, Any]  # weights, version and, once stage 2 has begun, optimizer state of this (tp, pp) rank
    reward_watch: dict[str, int]
    prompt_source: dict[str, Any]
    rng: torch.Tensor


def save(root: Path, checkpoint: Checkpoint, parallel: Parallel) -> None:
    """A collective; when it returns, root/step_N is complete on disk."""
    final = root / f"step_{checkpoint.step:06d}"
    temporary = root / f".{final.name}.tmp"
    if parallel.is_main:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    barrier()
    if parallel.dp_rank == 0:
        _write(temporary / _file_name(parallel), {k: getattr(checkpoint, k) for k in Checkpoint.__slots__})
    barrier()
    if parallel.is_main:
        _finish(temporary, final, parallel)
        for old in _complete(root)[:-KEEP]:
            shutil.rmtree(old)
    barrier()


def load_latest(root: Path, parallel: Parallel) -> Checkpoint | None:
    """The newest complete checkpoint, or None. Raises ConfigError when it is damaged or of another tp or pp."""
    complete = _complete(root)
    if not complete:
        return None
    folder = complete[-1]
    manifest = json.loads((folder / MANIFEST).read_text())
    saved, now = (manifest["tp"], manifest["pp"]), (parallel.tp, parallel.pp)
    if saved != now:
        raise ConfigError(f"checkpoint {folder} was saved with (tp, pp)={saved}, this run has {now}; use the same")
    file = folder / _file_name(parallel)
    if not file.is_file() or _sha256(file) != manifest["files"].get(file.name):
        raise ConfigError(f"checkpoint file {file} is missing or damaged; delete {folder} to use an older one")
    content = torch.load(file, map_location="cpu", weights_only=False)
    if missing := set(Checkpoint.__slots__) - content.keys():
        raise ConfigError(f"checkpoint {file} lacks {sorted(missing)}; delete {folder} to use an older one")
    return Checkpoint(**content)


def _finish(temporary: Path, final: Path, parallel: Parallel) -> None:
    files = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
    manifest = {"tp": parallel.tp, "pp": parallel.pp, "files": files}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
    _fsync([temporary / MANIFEST, temporary])
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _fsync([final.parent])


def _complete(root: Path) -> list[Path]:
    return sorted(folder for folder in root.glob("step_*") if (folder / MANIFEST).is_file())


def _file_name(parallel: Parallel) -> str:
    return f"tp{parallel.tp_rank}_pp{parallel.pp_rank}.pt"


def _write(file: Path, content: dict[str, Any]) -> None:
    torch.save(content, file)
    _fsync([file])


def _fsync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

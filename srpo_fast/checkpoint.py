"""Checkpoints: complete or absent, verified when read, refused when they do not fit.

A checkpoint is a folder step_N written under a temporary name, hashed into a manifest, then renamed. The policy's part
is Megatron's distributed format, which every rank writes its share of; the run may go on in another layout.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from srpo_fast.config import ConfigError
from srpo_fast.parallel import Parallel, barrier
from srpo_fast.policy.sharded_state import read_sharded, write_sharded

KEEP = 2  # checkpoints left on disk, beside the best one
BEST = "best"  # a link to the one of the greatest score
MANIFEST = "manifest.json"
POLICY = "policy"  # the folder of its part
TRAINER = "trainer.pt"
TRAINERS_OWN = ("step", "prompt_source", "reward_watch", "rng")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything that determines the next step."""

    step: int  # steps done
    policy: dict[str, Any]  # sharded: weights, version and, once stage 2 has begun, optimizer state and reference
    prompt_source: dict[str, Any]
    reward_watch: dict[str, int]
    rng: torch.Tensor
    score: float | None = None  # by which the best one is kept; None: not measured at this step


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """One on disk, verified; the policy's part is read once there is a policy to read it for."""

    folder: Path
    step: int
    prompt_source: dict[str, Any]
    reward_watch: dict[str, int]
    rng: torch.Tensor

    def read_policy(self, template: dict[str, Any]) -> dict[str, Any]:
        """What the template's shards name; a collective. Raises ConfigError when it is another model's."""
        return read_sharded(template, self.folder / POLICY)


def save(root: Path, checkpoint: Checkpoint, parallel: Parallel) -> None:
    """A collective; when it returns, root/step_N is complete on disk."""
    final = root / f"step_{checkpoint.step:06d}"
    temporary = root / f".{final.name}.tmp"
    if parallel.is_main:
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / POLICY).mkdir(parents=True)
        _write(temporary / TRAINER, {name: getattr(checkpoint, name) for name in TRAINERS_OWN})
    barrier()
    write_sharded(checkpoint.policy, temporary / POLICY)
    barrier()
    hashes = _hashes(temporary, parallel)
    if parallel.is_main:
        _finish(temporary, final, hashes, checkpoint.score, parallel)
        _prune(root)
    barrier()


def best_score(root: Path) -> float:
    """The greatest score of a checkpoint on disk; -inf where none has one."""
    return max((_score(folder) for folder in _complete(root)), default=-math.inf)


def load_latest(root: Path, parallel: Parallel) -> SavedCheckpoint | None:
    """The newest complete checkpoint, or None; a collective. Raises ConfigError when it is damaged or does not fit."""
    complete = _complete(root)
    if not complete:
        return None
    folder = complete[-1]
    manifest = json.loads((folder / MANIFEST).read_text())
    if manifest["distributed_optimizer"] != parallel.distributed_optimizer:
        raise ConfigError(
            f"checkpoint {folder} was saved with parallel.distributed_optimizer="
            f"{str(manifest['distributed_optimizer']).lower()}; resume with the same (tp, pp, cp and dp may change)"
        )
    found = _hashes(folder, parallel)
    if bad := sorted(name for name, sha256 in manifest["files"].items() if found.get(name) != sha256):
        raise ConfigError(
            f"checkpoint file {folder / bad[0]} is missing or damaged; delete {folder} to use an older one"
        )
    content = torch.load(folder / TRAINER, map_location="cpu", weights_only=False)
    if missing := set(TRAINERS_OWN) - content.keys():
        raise ConfigError(f"checkpoint {folder} lacks {', '.join(sorted(missing))}; delete it to use an older one")
    return SavedCheckpoint(folder=folder, **content)


def _finish(temporary: Path, final: Path, hashes: dict[str, str], score: float | None, parallel: Parallel) -> None:
    manifest = {
        "score": score, "world": parallel.world, "tp": parallel.tp, "pp": parallel.pp, "cp": parallel.cp,
        "distributed_optimizer": parallel.distributed_optimizer, "files": hashes,
    }  # fmt: skip
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
    _fsync([*_files(temporary), temporary / MANIFEST, temporary / POLICY, temporary])
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _fsync([final.parent])


def _prune(root: Path) -> None:
    """Leaves the last ones and the best one, the first of equals, and points root/best to that."""
    complete = _complete(root)
    best = max(complete, key=_score)
    if has_score := _score(best) > -math.inf:
        if not (root / BEST).is_symlink():
            shutil.rmtree(root / BEST, ignore_errors=True)  # what a copy that followed the link made of it
        link = root / f".{BEST}.tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(best.name)
        link.rename(root / BEST)
    for old in complete[:-KEEP]:
        if old != best or not has_score:
            shutil.rmtree(old)


def _score(folder: Path) -> float:
    score = json.loads((folder / MANIFEST).read_text()).get("score")
    return -math.inf if score is None else score


def _complete(root: Path) -> list[Path]:
    return sorted(folder for folder in root.glob("step_*") if (folder / MANIFEST).is_file())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def _hashes(folder: Path, parallel: Parallel) -> dict[str, str]:
    """The SHA-256 of every file by its name in the folder; a collective, since ranks share the work."""
    mine = {str(f.relative_to(folder)): _sha256(f) for f in _files(folder)[parallel.rank :: parallel.world]}
    everyone: list[dict[str, str]] = [mine]
    if parallel.world > 1:
        everyone = [{}] * parallel.world
        dist.all_gather_object(everyone, mine)
    return dict(sorted(item for of_rank in everyone for item in of_rank.items()))


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

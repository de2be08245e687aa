"""Writes a model's tensors as they come, into safetensors files of bounded size with Hugging Face's names and index."""

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

SHARD_BYTES = 4 << 30  # of host memory that an export takes


class ShardWriter:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, Tensor] = {}
        self._names: list[list[str]] = []  # of each file written so far
        self._total = 0

    def add(self, name: str, tensor: Tensor) -> None:
        if self._waiting and sum(t.nbytes for t in self._waiting.values()) + tensor.nbytes > SHARD_BYTES:
            self._write()
        self._waiting[name] = tensor.detach().cpu().contiguous()
        self._total += tensor.nbytes

    def finish(self) -> None:
        """One file is model.safetensors; several are numbered and have an index."""
        if self._waiting:
            self._write()
        count = len(self._names)
        files = [f"model-{n + 1:05d}-of-{count:05d}.safetensors" for n in range(count)]
        if count == 1:
            files = ["model.safetensors"]
        else:
            weight_map = {name: file for file, names in zip(files, self._names, strict=True) for name in names}
            index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(weight_map.items()))}
            (self._folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
        for number, file in enumerate(files):
            self._part(number).rename(self._folder / file)

    def _write(self) -> None:
        part = self._part(len(self._names))
        save_file(self._waiting, part, metadata={"format": "pt"})
        part.chmod(0o644)  # save_file makes it private
        self._names.append(list(self._waiting))
        self._waiting = {}

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number}.safetensors"

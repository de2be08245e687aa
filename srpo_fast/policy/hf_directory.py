"""A Hugging Face Qwen2.5-VL directory: its config, its tensors read by name, and an export beside its other files."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import srpo_fast.torchvision_shim  # noqa: F401
from srpo_fast.config import ConfigError
from srpo_fast.policy.name_map import canonical
from srpo_fast.policy.safetensors_shards import ShardWriter


class HFDirectory:
    """Raises ConfigError when the directory holds no Qwen2.5-VL model."""

    def __init__(self, path: Path) -> None:
        from transformers import AutoConfig

        if not (path / "config.json").is_file():
            raise ConfigError(f"model.path {path} is not a Hugging Face directory: it has no config.json")
        self.path = path
        self.config: Any = AutoConfig.from_pretrained(path)
        if self.config.model_type != "qwen2_5_vl":
            raise ConfigError(f"model.path {path} holds a {self.config.model_type} model; only qwen2_5_vl is supported")
        self._files = {
            canonical(name): (file, name) for file in sorted(path.glob("*.safetensors")) for name in _names(file)
        }
        if not self._files:
            raise ConfigError(f"model.path {path} has no *.safetensors file")

    @property
    def tensor_names(self) -> list[str]:
        return list(self._files)

    def tensor(self, name: str) -> Tensor:
        """A whole tensor by its published name, on the CPU."""
        with safe_open(self._file_of(name), framework="pt") as reader:
            return reader.get_tensor(self._files[name][1])

    def slice(self, name: str) -> Any:
        """A tensor by its published name that reads from its file only the rows and columns asked of it."""
        return safe_open(self._file_of(name), framework="pt").get_slice(self._files[name][1])

    def _file_of(self, name: str) -> Path:
        if name not in self._files:
            raise ConfigError(f"model.path {self.path} lacks the tensor {name}; is the download complete?")
        return self._files[name][0]

    def export(self, target: Path, weights: Iterable[tuple[str, Tensor]], *, writes: bool) -> None:
        """Writes the directory anew with these weights; every other file and tensor is the base's.

        Every rank passes its weights, since gathering them is a collective; the one that `writes` writes, and holds no
        more than a file of them at a time.

        Atomic (a temporary directory, then a rename). Raises RuntimeError if names, shapes or dtypes differ from the
        base model's after reading the result back.
        """
        if not writes:
            for _ in weights:
                pass
            return
        temporary = target.with_name(f"{target.name}.tmp{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for file in self.path.iterdir():
            if file.is_file() and not file.name.endswith((".safetensors", ".safetensors.index.json")):
                shutil.copy2(file, temporary / file.name)
        writer, layout, given = ShardWriter(temporary), self._layout(), set()
        for name, tensor in weights:
            writer.add(self._files[name][1], tensor.to(layout[name][1]))
            given.add(name)
        for name, (_, stored) in self._files.items():
            if name not in given:
                writer.add(stored, self.tensor(name))
        writer.finish()
        exported = HFDirectory(temporary)._layout()
        if different := sorted(n for n in layout | exported if layout.get(n) != exported.get(n)):
            raise RuntimeError(f"the export's tensors differ from the base model's: {different[:5]}")
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)

    def _layout(self) -> "Layout":
        """The shape and dtype of every tensor, read from the files' headers."""
        layout: Layout = {}
        for name in self._files:
            tensor = self.slice(name)
            layout[name] = tuple(tensor.get_shape()), _DTYPES[tensor.get_dtype()]
        return layout


Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as reader:
            return list(reader.keys())
    except SafetensorError as error:
        raise ConfigError(f"{file} is damaged or incomplete ({error}); download or copy it again") from error


def torch_dtype(name: str) -> torch.dtype:
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]

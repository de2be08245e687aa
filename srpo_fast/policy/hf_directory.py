"""A Hugging Face Qwen2.5-VL directory: its config, its tensors read by name, and an export beside its other files."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import srpo_fast.torchvision_shim  # noqa: F401
from srpo_fast.config import ConfigError
from srpo_fast.policy.name_map import canonical


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

    def export(self, target: Path, language_weights: Iterable[tuple[str, Tensor]], *, writes: bool) -> None:
        """Writes the directory anew with these language weights; every other file and tensor is the base's.

        Every rank passes its weights, since gathering them is a collective; the one that `writes` writes.

        Atomic (a temporary directory, then a rename). Raises RuntimeError if names, shapes or dtypes differ from the
        base model's after reading the result back.
        """
        new = {name: tensor.detach().cpu().contiguous() for name, tensor in language_weights}
        if not writes:
            return
        temporary = target.with_name(f"{target.name}.tmp{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for file in self.path.iterdir():
            if file.is_file() and not file.name.endswith((".safetensors", ".safetensors.index.json")):
                shutil.copy2(file, temporary / file.name)
        tensors = {stored: self._exported(name, new) for name, (_, stored) in self._files.items()}
        save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
        (temporary / "model.safetensors").chmod(0o644)  # save_file makes it private
        _check_same_layout(self, HFDirectory(temporary))
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)

    def _exported(self, name: str, new: dict[str, Tensor]) -> Tensor:
        base = self.tensor(name)
        return new[name].to(base.dtype) if name in new else base


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as reader:
            return list(reader.keys())
    except SafetensorError as error:
        raise ConfigError(f"{file} is damaged or incomplete ({error}); download or copy it again") from error


def _check_same_layout(base: HFDirectory, exported: HFDirectory) -> None:
    layouts = [{n: (tuple(d.tensor(n).shape), d.tensor(n).dtype) for n in d.tensor_names} for d in (base, exported)]
    if layouts[0] != layouts[1]:
        different = sorted(n for n in layouts[0] | layouts[1] if layouts[0].get(n) != layouts[1].get(n))
        raise RuntimeError(f"the export's tensors differ from the base model's: {different[:5]}")


def torch_dtype(name: str) -> torch.dtype:
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]

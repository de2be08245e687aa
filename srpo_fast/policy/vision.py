"""The vision tower: Hugging Face's own module, the only one of a run, frozen unless trained.

It gives the engine its features of the prompts that it samples from, and the update those of the distinct prompts that
train. The ranks that see the same prompts each encode a share of the images. A trained tower is run once more for its
gradient, after the last micro-batch has added to that of the features: no activation waits. Its blocks keep their
inputs only and recompute the rest, so that even one image of the largest size fits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core import parallel_state
from torch import Tensor, nn

from srpo_fast.batch import Prompt
from srpo_fast.parallel import Parallel
from srpo_fast.policy.attention import can_flash, flash_windows
from srpo_fast.policy.hf_directory import HFDirectory

# What bounds the tower's activations (estimate/memory.py). With a gradient a patch of the published tower in bf16 needs
# 194 kB: the inputs of 32 blocks (82), what the block at hand rebuilds (66) and its gradients; 3 GiB in all. Without
# one 47 kB while a block runs. Were every block to keep its activations, a patch would need 2.1 MB.
PATCHES_PER_PASS = 16_384

# transformers hands window bounds, rather than windows, to every attention with "flash" in its name
FLASH_WINDOWS = "srpo_flash_windows"


class PatchEmbedding(nn.Module):
    """transformers' convolution as the one product that it is, for its stride is its kernel; weight and name stay."""

    def __init__(self, proj: nn.Conv3d) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, pixels: Tensor) -> Tensor:
        """[patches, channels * 2 * 14 * 14] -> [patches, D]."""
        return F.linear(pixels, self.proj.weight.flatten(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    pixel_values: Tensor  # [patches, ...]
    grid: Tensor  # [3] int64
    rows: Tensor  # [merged patches] int64, its rows in the step's features


T = TypeVar("T", _Image, Prompt)


class VisionTower:
    """A full copy on every rank. Where it is trained that is on the first pipeline stage, and the others follow."""

    def __init__(self, source: HFDirectory, dtype: torch.dtype, parallel: Parallel, *, trained: bool) -> None:
        """trained: on this rank."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

        self._config = config = source.config.vision_config
        config._attn_implementation = "sdpa"  # a call for every window
        self.module = Qwen2_5_VisionTransformerPretrainedModel(config)
        if can_flash(parallel.device, dtype):
            ALL_ATTENTION_FUNCTIONS.register(FLASH_WINDOWS, flash_windows)
            config._attn_implementation = FLASH_WINDOWS  # only now: transformers would look for a package of that name
        self.module.patch_embed = PatchEmbedding(self.module.patch_embed.proj)  # type: ignore[assignment]
        self.module.load_state_dict({name: source.tensor(f"visual.{name}") for name in self.module.state_dict()})
        for parameter in self.module.parameters():  # not the buffers: rotary frequencies stay fp32
            parameter.data = parameter.data.to(dtype)
        self.module.requires_grad_(trained).train(trained).to(parallel.device)  # its only dropout is 0
        if trained:
            self.module.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        self.dtype, self.trained, self._parallel = dtype, trained, parallel
        self._kept: dict[int, tuple[Sequence[Prompt], Tensor | None]] = {}  # by the identity of the prompts

    def features_of(self, prompts: Sequence[Prompt], *, last_pass: bool) -> Tensor | None:
        """Those of an update, in a row. A frozen tower runs once for all passes over it, the last of which trains."""
        if self.trained:
            features = self.encode(prompts, self._updating)
            return None if features is None else features.float().requires_grad_()
        _, features = self._kept.pop(id(prompts), None) or (prompts, self.encode(prompts, self._updating))
        if not last_pass:
            self._kept[id(prompts)] = prompts, features
        return features

    def forget(self) -> None:
        """Drops what waits for a last pass that will not come."""
        self._kept.clear()

    def features_for_engine(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """[F, D] of each prompt's images, on the host; a collective of the engine's ranks, who ask for the same."""
        ranks = parallel_state.get_tensor_model_parallel_group()
        _require_same([prompt.question.id for prompt in prompts], ranks)
        merged, found = self._config.spatial_merge_size**2, []
        for some in _runs(prompts, PATCHES_PER_PASS * ranks.size()):
            features = self.encode(some, ranks)
            host = torch.empty(0, self._config.out_hidden_size) if features is None else features.cpu()
            found += host.split([_num_patches(prompt) // merged for prompt in some])
        return found

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt], ranks: dist.ProcessGroup) -> Tensor | None:
        """Image features [F, D] of all prompts in order, one row a merged patch; None when there is no image.

        ranks: those that share the work, who all ask for the same.
        """
        images = self._images(prompts)
        if not images:
            return None
        rows = sum(len(image.rows) for image in images)
        features = torch.zeros(rows, self._config.out_hidden_size, dtype=self.dtype, device=self._parallel.device)
        for some in _runs(_share(images, ranks), PATCHES_PER_PASS):
            features[_rows(some, features.device)] = self._forward(some)
        if ranks.size() > 1:
            dist.all_reduce(features, group=ranks)
        return features

    def backward(self, prompts: Sequence[Prompt], features: Tensor) -> None:
        """Adds to the tower's gradient what those of `features_of` have collected; a collective like it."""
        gradient = torch.zeros_like(features) if features.grad is None else features.grad
        if self._parallel.cp > 1:
            dist.all_reduce(gradient, group=parallel_state.get_context_parallel_group())
        for some in _runs(_share(self._images(prompts), self._updating), PATCHES_PER_PASS):
            output = self._forward(some)
            output.backward(gradient[_rows(some, gradient.device)].to(output.dtype))
        if self._parallel.tp > 1:  # the sum over context-parallel ranks is that of all gradients
            for parameter in self.module.parameters():
                dist.all_reduce(parameter.main_grad, group=parallel_state.get_tensor_model_parallel_group())

    def _forward(self, images: list[_Image]) -> Tensor:
        pixels = torch.cat([image.pixel_values for image in images]).to(self._parallel.device, self.dtype)
        grids = torch.stack([image.grid for image in images]).to(self._parallel.device)
        return self.module(pixels, grid_thw=grids).pooler_output

    def _images(self, prompts: Sequence[Prompt]) -> list[_Image]:
        images, first_row = [], 0
        for prompt in prompts:
            sizes = prompt.image_grid_thw.prod(dim=1).tolist()
            for grid, pixels in zip(prompt.image_grid_thw, prompt.pixel_values.split(sizes), strict=True):
                end = first_row + len(pixels) // self._config.spatial_merge_size**2
                images.append(_Image(pixel_values=pixels, grid=grid, rows=torch.arange(first_row, end)))
                first_row = end
        return images

    @property
    def _updating(self) -> dist.ProcessGroup:
        """The ranks that see the same prompts in an update."""
        return parallel_state.get_tensor_and_context_parallel_group()


def _require_same(ids: list[str], ranks: dist.ProcessGroup) -> None:
    """An image that one rank could not read would give the others' features other rows, or hang them."""
    if ranks.size() > 1:
        everyone: list[Any] = [None] * ranks.size()
        dist.all_gather_object(everyone, ids, group=ranks)
        if any(others != ids for others in everyone):
            raise RuntimeError(
                "the ranks of an engine ask for the images of different prompts: can each read all files?"
            )


def _share(images: list[_Image], ranks: dist.ProcessGroup) -> list[_Image]:
    return share_images(images, ranks.size(), ranks.rank())


def share_images(images: list[_Image], ranks: int, rank: int) -> list[_Image]:
    """One rank's images in their order: the largest first, each to the rank with the fewest patches so far."""
    loads, owners = [0] * ranks, [0] * len(images)
    for number in sorted(range(len(images)), key=lambda number: -len(images[number].pixel_values)):
        owners[number] = loads.index(min(loads))
        loads[owners[number]] += len(images[number].pixel_values)
    return [image for image, owner in zip(images, owners, strict=True) if owner == rank]


def _num_patches(of: _Image | Prompt) -> int:
    return len(of.pixel_values)


def _runs(items: Sequence[T], most: int) -> Iterator[list[T]]:
    """The items in runs of at most so many patches, or of one item."""
    run: list[T] = []
    for item in items:
        if run and sum(map(_num_patches, run)) + _num_patches(item) > most:
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def _rows(images: list[_Image], device: torch.device) -> Tensor:
    return torch.cat([image.rows for image in images]).to(device)

"""The vision tower: Hugging Face's own module, frozen, run once for every distinct prompt of a step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from srpo_fast.batch import Prompt
from srpo_fast.policy.hf_directory import HFDirectory


class VisionTower:
    """Lives on the first pipeline stage; a full copy on every tensor-parallel rank."""

    def __init__(self, source: HFDirectory, dtype: torch.dtype, device: torch.device) -> None:
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

        config = source.config.vision_config
        config._attn_implementation = "flash_attention_2" if device.type == "cuda" else "sdpa"
        self.module = Qwen2_5_VisionTransformerPretrainedModel(config)
        self.module.load_state_dict({name: source.tensor(f"visual.{name}") for name in self.module.state_dict()})
        for parameter in self.module.parameters():  # not the buffers: rotary frequencies stay fp32
            parameter.data = parameter.data.to(dtype)
        self.module.requires_grad_(False).eval().to(device)
        self.dtype, self.device = dtype, device

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> Tensor | None:
        """Image features [F, D] of all prompts in order, one row a merged patch; None when there is no image."""
        with_images = [p for p in prompts if len(p.image_grid_thw)]
        if not with_images:
            return None
        pixels = torch.cat([p.pixel_values for p in with_images]).to(self.device, self.dtype)
        grids = torch.cat([p.image_grid_thw for p in with_images]).to(self.device)
        return self.module(pixels, grid_thw=grids).pooler_output

"""A prompt for tests of what comes after tokenizing."""

import torch
from PIL import Image
from torch import Tensor

from srpo_fast.batch import Prompt, Question


def bare_prompt(
    name: str, token_ids: Tensor | None = None, text: str = "", images: tuple[Image.Image, ...] = (), answer: str = ""
) -> Prompt:
    """Of one token unless told otherwise; its images, if any, have no patches."""
    token_ids = torch.tensor([1]) if token_ids is None else token_ids
    return Prompt(
        question=Question(id=name, text=text, images=images, answer=answer),
        engine_token_ids=(),
        token_ids=token_ids,
        position_ids=torch.arange(len(token_ids)).repeat(3, 1),
        pixel_values=torch.empty(0, 8),
        image_grid_thw=torch.empty(0, 3, dtype=torch.int64),
    )

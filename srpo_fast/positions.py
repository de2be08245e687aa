"""M-RoPE positions of Qwen2.5-VL: three numbers a token (time, height, width), computed once when a prompt is made.

Text counts on in all three rows. An image spans its merged patches: time stays at the image's start, height and width
count rows and columns from it, and what follows goes on after the longer side.
"""

import torch
from torch import Tensor


def mrope_positions(token_ids: Tensor, image_grid_thw: Tensor, *, image_token_id: int, merge_size: int) -> Tensor:
    """The positions [3, L] int64 of a prompt whose images are expanded to their merged patches.

    token_ids: [L] int64. image_grid_thw: [I, 3] int64 in patches, in order of appearance; no rows without an image.
    Raises ValueError when the image tokens are not one unbroken run for each still image of the grid.
    """
    if (image_grid_thw[:, 0] != 1).any():
        raise ValueError(
            f"expected still images, whose grids are 1 patch deep, got grids {image_grid_thw.tolist()}; "
            "videos are not supported: leave them out"
        )
    heights, widths = image_grid_thw[:, 1] // merge_size, image_grid_thw[:, 2] // merge_size
    sizes = heights * widths
    image_rows = (token_ids == image_token_id).nonzero().squeeze(1)
    lasts = sizes.cumsum(0) - 1
    firsts = lasts + 1 - sizes
    _check_runs(image_rows, firsts, lasts, sizes)

    # an image token moves nothing on but the last of its image, which moves past the longer side
    advance = torch.ones_like(token_ids)
    advance[image_rows] = 0
    advance[image_rows[lasts]] = torch.maximum(heights, widths)
    positions = (advance.cumsum(0) - advance).repeat(3, 1)

    offsets = torch.arange(len(image_rows)) - firsts.repeat_interleave(sizes)
    columns = widths.repeat_interleave(sizes)
    positions[1, image_rows] += offsets // columns
    positions[2, image_rows] += offsets % columns
    return positions


def continue_positions(position_ids: Tensor, n: int) -> Tensor:
    """The positions [3, n] int64 of `n` text tokens after `position_ids` [3, L]: a completion's."""
    start = int(position_ids.max()) + 1
    return torch.arange(start, start + n).repeat(3, 1)


def _check_runs(image_rows: Tensor, firsts: Tensor, lasts: Tensor, sizes: Tensor) -> None:
    if len(image_rows) != int(sizes.sum()):
        raise ValueError(
            f"the prompt holds {len(image_rows)} image tokens, but its images have {sizes.tolist()} merged patches; "
            "expand every image token to its patches, and never cut a prompt inside an image"
        )
    if (image_rows[lasts] - image_rows[firsts] != sizes - 1).any():
        raise ValueError(
            f"an image's tokens are interrupted by text: images have {sizes.tolist()} merged patches, "
            f"image tokens stand at {image_rows.tolist()}"
        )

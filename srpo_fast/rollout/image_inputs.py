"""How images reach the engine: as pixels for its own vision tower, or as the policy's features, without a tower.

vLLM keys what it caches of an image by a hash of what it is handed, pixels or features: a trained tower's features of
new weights are another image to it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

from srpo_fast.batch import Prompt
from srpo_fast.image_marks import MAX_IMAGES


class ImageInputs(Protocol):
    options: ClassVar[dict[str, Any]]  # what the engine is started with

    def of(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, Any]]:
        """What the images of each prompt add to its request."""
        ...


class Pixels:
    """For an engine by itself: it reads the tower of its model directory, and its processor cuts the patches."""

    options: ClassVar[dict[str, Any]] = {
        "limit_mm_per_prompt": {"image": MAX_IMAGES, "video": 0},
        "mm_encoder_tp_mode": "data",  # the ranks share the images
    }

    def of(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, Any]]:
        for prompt in prompts:
            images = list(prompt.question.images)
            yield {"multi_modal_data": {"image": images}} if images else {}


class Features:
    """For an engine beside a policy, whose tower is then the only one: nothing of it is loaded, resized or synced."""

    options: ClassVar[dict[str, Any]] = {
        "limit_mm_per_prompt": {"image": 0, "video": 0},  # no tower; features are not counted
        "enable_mm_embeds": True,
        "mm_processor_cache_gb": 0,  # there is nothing to process
    }

    def __init__(self, encode: Callable[[Sequence[Prompt]], list[Tensor]]) -> None:
        """encode: the features [F, D] of each prompt's images, on the host; the engine's ranks call it together."""
        self._encode = encode

    def of(self, prompts: Sequence[Prompt]) -> Iterator[dict[str, Any]]:
        for prompt, features in zip(prompts, self._encode(prompts), strict=True):
            image = {"image_embeds": features, "image_grid_thw": prompt.image_grid_thw}
            yield {"multi_modal_data": {"image": image}} if len(features) else {}

"""Where a rank's columns lie in the vocabulary, and what sampling did to their logits."""

from dataclasses import dataclass

from torch import Tensor
from torch.distributed import ProcessGroup

BANNED_BIAS = -100.0  # the engine's logit_bias for a token it may not sample


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabShard:
    """This rank's columns of the logits. A score is (logit + bias) / temperature, as the engine's softmax saw it."""

    start: int = 0  # token id of the first column
    temperature: float = 1.0  # of sampling, > 0
    banned_columns: Tensor | None = None  # [B] int64, those of this rank whose logits get BANNED_BIAS; None: none
    group: ProcessGroup | None = None  # the ranks with as many other columns; None: this rank holds them all

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"expected a temperature above 0, got {self.temperature}")

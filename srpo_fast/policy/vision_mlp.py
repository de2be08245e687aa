"""The vision tower's MLP with gate and up projection in one parameter, as the engine has it."""

from torch import Tensor, nn
from torch.nn.functional import silu


class FusedGateUp(nn.Module):
    """silu(x @ gate) * (x @ up) @ down, biases included; gate's rows come first in gate_up_proj."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(hidden_size, 2 * intermediate_size)
        self.down_proj = nn.Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(silu(gate) * up)


def fuse_gate_up(tower: nn.Module) -> None:
    """Replaces the MLPs of transformers' Qwen2.5-VL tower, weights unset."""
    config = tower.config
    assert config.hidden_act == "silu", f"expected silu in the vision tower, got {config.hidden_act}"
    for block in tower.blocks:  # type: ignore[union-attr]
        block.mlp = FusedGateUp(config.hidden_size, config.intermediate_size)

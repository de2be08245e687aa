"""AdamW whose state is as small as wanted and may wait on the host.

A bf16 parameter's fp32 master weight is kept whole, or as the 16 bits that the parameter lacks, one more bit being the
sign of exp_avg_sq; moments in fp32 or bf16. Every element sees the operations of torch's AdamW in their order: with
fp32 moments, masters and parameters have the bits that it gives fp32 masters and their copies in bf16.
The state, get_unscaled_state and set_scaled_state are named as Megatron knows them from TransformerEngine's Adam.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srpo_fast.policy.host_state import HostMemory, State, from_host, in_place
from srpo_fast.policy.rounding import join, split, stochastic, with_bit

SLICE = 2**22  # elements computed at a time
MASTER = "master_param"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some elements of a parameter, flat, their fp32 gradient, and where their state is kept."""

    weight: Tensor
    gradient: Tensor
    kept: State
    group: dict[str, Any]
    step: int


class EconomicAdamW(torch.optim.Optimizer):
    """State of a parameter, in its shape: exp_avg, exp_avg_sq and, of a bf16 one, master_param; and its `step`."""

    def __init__(
        self, param_groups: list[dict[str, Any]], defaults: dict[str, Any], *, master_dtype: torch.dtype,
        moment_dtype: torch.dtype, offload: bool,
    ) -> None:  # fmt: skip
        """master_dtype: float32, or int16 for the remainder."""
        super().__init__(param_groups, defaults)
        self.device = self._parameters()[0].device
        self._brought = from_host if offload else in_place
        memory = HostMemory(self.device)
        for parameter in self._parameters():
            dtypes = dict.fromkeys(MOMENTS, moment_dtype)
            if parameter.dtype == torch.bfloat16:
                dtypes[MASTER] = master_dtype
            self.state[parameter] = {"step": torch.zeros(())} | {
                name: memory.zeros(parameter.shape, dtype)
                if offload
                else torch.zeros(parameter.shape, dtype=dtype, device=self.device)
                for name, dtype in dtypes.items()
            }
            if dtypes.get(MASTER) == torch.float32:
                self.state[parameter][MASTER].copy_(parameter)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        slices = self._slices()
        for state, piece in zip(self._brought([s.kept for s in slices], self.device), slices, strict=True):
            _update(piece, state)

    def get_unscaled_state(self, parameter: Tensor, name: str) -> Tensor:
        """fp32, whatever it is kept in."""
        state = self.state[parameter]
        if name == MASTER and state[MASTER].dtype == torch.int16:
            return join(parameter.detach().to(state[MASTER].device), state[MASTER], state["exp_avg_sq"].signbit())
        return state[name].float().abs() if name == "exp_avg_sq" else state[name].float()

    @torch.no_grad()
    def set_scaled_state(self, parameter: Tensor, name: str, value: Tensor) -> None:
        """Takes over value fp32; of a master weight, the parameter follows."""
        state = self.state[parameter]
        value = value.reshape(parameter.shape).to(state[name].device)
        if name == MASTER:
            weight, remainder, above = split(value)
            parameter.copy_(weight)
            if state[MASTER].dtype == torch.int16:
                state["exp_avg_sq"].copy_(with_bit(state["exp_avg_sq"].abs(), above))
                value = remainder
        elif name == "exp_avg_sq":
            value = with_bit(value, state[name].signbit())
        state[name].copy_(value)

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """In place: torch would turn the state into the parameters' type and move it to their device."""
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for parameter, number in zip(group["params"], saved["params"], strict=True):
                own, loaded = self.state[parameter], state_dict["state"][number]
                for name in own.keys() - {"step"}:
                    own[name].copy_(loaded[name])
                own["step"] = loaded["step"].clone()  # Megatron gives all parameters one tensor
            group.update({key: value for key, value in saved.items() if key != "params"})

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _slices(self) -> list[Slice]:
        """All of this step, which is counted here."""
        slices = []
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] += 1
                flat = {name: value.view(-1) for name, value in state.items() if name != "step"}
                weight, gradient = parameter.detach().view(-1), _gradient(parameter).view(-1)
                for start in range(0, len(weight), SLICE):
                    part = slice(start, start + SLICE)
                    slices.append(
                        Slice(
                            weight=weight[part], gradient=gradient[part], group=group, step=int(state["step"]),
                            kept={name: value[part] for name, value in flat.items()},
                        )
                    )  # fmt: skip
        return slices


def _gradient(parameter: Tensor) -> Tensor:
    """fp32; beside a bf16 parameter, whose .grad may not be."""
    return parameter.decoupled_grad if parameter.dtype == torch.bfloat16 else parameter.grad  # type: ignore[attr-defined,return-value]


def _update(piece: Slice, state: State) -> None:
    """One step of a slice whose state is here."""
    first, second = (state[name].float() for name in MOMENTS)  # themselves where they are fp32
    if MASTER not in state:
        _adamw(piece.weight, piece.gradient, first, second, piece)
    elif state[MASTER].dtype == torch.int16:
        master = join(piece.weight, state[MASTER], second.signbit())
        _adamw(master, piece.gradient, first, second.abs_(), piece)
        weight, remainder, above = split(master)
        piece.weight.copy_(weight)
        state[MASTER].copy_(remainder)
        second.copy_(with_bit(second, above))
    else:
        _adamw(state[MASTER], piece.gradient, first, second, piece)
        piece.weight.copy_(state[MASTER])
    for name, moment in zip(MOMENTS, (first, second), strict=True):
        if state[name] is not moment:
            state[name].copy_(stochastic(moment, piece.gradient, piece.step))


def _adamw(master: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, piece: Slice) -> None:
    """torch's AdamW on fp32 tensors [n], in place."""
    group, (beta1, beta2) = piece.group, piece.group["betas"]
    if group["weight_decay"] != 0:
        master.mul_(1 - group["lr"] * group["weight_decay"])
    exp_avg.lerp_(gradient, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    step_size = group["lr"] / (1 - beta1**piece.step)
    denominator = (exp_avg_sq.sqrt() / (1 - beta2**piece.step) ** 0.5).add_(group["eps"])
    master.addcdiv_(exp_avg, denominator, value=-step_size)

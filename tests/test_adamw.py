"""The economical AdamW does what torch's does to fp32 masters, in less memory and with its state elsewhere."""

import weakref

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from srpo_fast.estimate import memory
from srpo_fast.policy import adamw
from srpo_fast.policy.adamw import MASTER, SLICE, EconomicAdamW

SIZES = [(300, 40), (7,), (1,), (64, 65)]
SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
FLOAT, REMAINDER, SHORT = torch.float32, torch.int16, torch.bfloat16


def make_weights(dtype: torch.dtype) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=chance).to(dtype) for size in SIZES]


def gradients(step: int) -> list[Tensor]:
    """Of all sizes, some elements without one."""
    chance = torch.Generator().manual_seed(step)
    return [torch.randn(size, generator=chance) * (torch.rand(size, generator=chance) > 0.1) for size in SIZES]


def make(
    weights: list[Tensor], master: torch.dtype = FLOAT, moments: torch.dtype = FLOAT, *, offload: bool = False
) -> EconomicAdamW:
    defaults = torch.optim.AdamW([torch.zeros(1)], **SETTINGS).defaults
    groups = [{"params": weights[:2]}, {"params": weights[2:], "weight_decay": 0.0}]
    return EconomicAdamW(groups, defaults, master_dtype=master, moment_dtype=moments, offload=offload)


def take_step(optimizer: torch.optim.Optimizer, weights: list[Tensor], step: int) -> None:
    for weight, gradient in zip(weights, gradients(step), strict=True):
        weight.grad = gradient if weight.dtype == FLOAT else None
        weight.decoupled_grad = gradient
    optimizer.step()


def twin(steps: int) -> tuple[list[Tensor], torch.optim.AdamW]:
    """torch's AdamW on fp32 masters of the bf16 weights."""
    masters = [weight.float() for weight in make_weights(SHORT)]
    groups = [{"params": masters[:2]}, {"params": masters[2:], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, **SETTINGS)
    for step in range(steps):
        take_step(optimizer, masters, step)
    return masters, optimizer


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch):
    """Several a parameter, the last one short."""
    monkeypatch.setattr(adamw, "SLICE", 1000)


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("master", [FLOAT, REMAINDER])
def test_twenty_steps_are_those_of_fp32_masters_bit_for_bit(master, offload):
    masters, reference = twin(20)
    weights = make_weights(SHORT)
    optimizer = make(weights, master, offload=offload)
    for step in range(20):
        take_step(optimizer, weights, step)
    for weight, expected in zip(weights, masters, strict=True):
        assert torch.equal(weight, expected.bfloat16())
        assert torch.equal(optimizer.get_unscaled_state(weight, MASTER), expected)
        for name in adamw.MOMENTS:
            assert torch.equal(optimizer.get_unscaled_state(weight, name), reference.state[expected][name])


def test_masters_halfway_between_two_weights_are_told_apart():
    ties = torch.tensor([0x3F808000, 0x3F818000], dtype=torch.int32).view(FLOAT)
    weights = [ties.bfloat16()]
    optimizer = make(weights, REMAINDER)
    optimizer.set_scaled_state(weights[0], MASTER, ties)
    optimizer.param_groups[0]["lr"] = 0.0
    weights[0].decoupled_grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(optimizer.get_unscaled_state(weights[0], MASTER), ties)


def test_fp32_weights_are_their_own_masters():
    weights, expected = make_weights(FLOAT), make_weights(FLOAT)
    groups = [{"params": expected[:2]}, {"params": expected[2:], "weight_decay": 0.0}]
    optimizer, reference = make(weights, offload=True), torch.optim.AdamW(groups, **SETTINGS)
    for step in range(5):
        take_step(optimizer, weights, step)
        take_step(reference, expected, step)
    assert all(map(torch.equal, weights, expected))
    assert not any(MASTER in state for state in optimizer.state.values())


@pytest.mark.parametrize("moments", [FLOAT, SHORT])
def test_where_the_state_is_and_how_masters_are_kept_changes_no_bit(moments):
    found = []
    for master, offload in ((FLOAT, False), (REMAINDER, False), (REMAINDER, True)):
        weights = make_weights(SHORT)
        optimizer = make(weights, master, moments, offload=offload)
        for step in range(10):
            take_step(optimizer, weights, step)
        found.append([*weights, *(optimizer.get_unscaled_state(w, name) for w in weights for name in adamw.MOMENTS)])
    assert all(map(torch.equal, found[1], found[0]))
    assert all(map(torch.equal, found[2], found[0]))


def test_bf16_moments_stay_near_and_lean_to_neither_side():
    masters, reference = twin(100)
    weights = make_weights(SHORT)
    optimizer = make(weights, REMAINDER, SHORT)
    for step in range(100):
        take_step(optimizer, weights, step)
    exact = reference.state[masters[0]]["exp_avg_sq"]
    error = optimizer.get_unscaled_state(weights[0], "exp_avg_sq") / exact - 1
    # a rounding is off by 2**-7 / sqrt(6) at most; the last 100 (beta 0.99: 50 in effect) add up as chance does
    assert error.std() < 2**-7 / 6**0.5 * 50**0.5
    assert error.mean().abs() < 5 * error.std() / len(exact.view(-1)) ** 0.5


def test_a_bf16_second_moment_falls_though_a_step_is_less_than_a_place():
    weights = [torch.ones(4096, dtype=SHORT)]
    optimizer = make(weights, REMAINDER, SHORT)
    optimizer.set_scaled_state(weights[0], "exp_avg_sq", torch.ones(4096))
    optimizer.param_groups[0]["betas"] = (0.9, 0.999)
    weights[0].decoupled_grad = torch.zeros(4096)
    for _ in range(500):
        optimizer.step()
    # elements share their chances here, since they share value and gradient: one walk of 500 roundings
    assert optimizer.get_unscaled_state(weights[0], "exp_avg_sq").mean() == pytest.approx(0.999**500, rel=0.1)


def test_a_regression_is_learned_alike_with_bf16_moments():
    chance = torch.Generator().manual_seed(1)
    x, truth = torch.randn(256, 32, generator=chance), torch.randn(32, generator=chance)
    losses = []
    for master, moments in ((FLOAT, FLOAT), (REMAINDER, SHORT)):
        weights = [torch.zeros(32, dtype=SHORT)]
        optimizer = make(weights, master, moments)
        optimizer.param_groups[0] |= {"lr": 0.05, "weight_decay": 0.0}
        for step in range(200):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 200)
            weight = weights[0].float().requires_grad_()
            loss = ((x @ weight - x @ truth) ** 2).mean()
            (weights[0].decoupled_grad,) = torch.autograd.grad(loss, weight)
            optimizer.step()
        losses.append(loss.item())
    assert (truth**2).sum() > 20
    assert max(losses) < 1e-3  # bf16 weights leave (2**-9)**2 of it
    assert losses[1] == pytest.approx(losses[0], rel=0.5)


def test_a_state_is_taken_over_in_place_with_a_step_of_its_own():
    weights, others = make_weights(SHORT), make_weights(SHORT)
    one, other = make(weights, REMAINDER, SHORT), make(others, REMAINDER, SHORT, offload=True)
    for step in range(3):
        take_step(one, weights, step)
    shared = torch.tensor(3.0)
    saved = one.state_dict()
    saved["state"] = {number: state | {"step": shared} for number, state in saved["state"].items()}
    places = [state["exp_avg"].data_ptr() for state in other.state.values()]
    for weight, trained in zip(others, weights, strict=True):
        weight.copy_(trained)
    other.load_state_dict(saved)
    assert [state["exp_avg"].data_ptr() for state in other.state.values()] == places
    take_step(one, weights, 3)
    take_step(other, others, 3)
    assert all(map(torch.equal, others, weights))
    assert [state["step"] for state in other.state.values()] == [4.0] * len(SIZES)
    assert shared == 3


class Allocations(TorchDispatchMode):
    """Bytes of the largest tensor made inside, and of all that were there at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.peak = self.now = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {t.untyped_storage().data_ptr() for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in before:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self.largest, self.now = max(self.largest, size), self.now + size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize(("master", "moments"), [(FLOAT, FLOAT), (REMAINDER, FLOAT), (REMAINDER, SHORT)])
def test_a_step_makes_no_tensor_larger_than_a_slice(master, moments, offload):
    weights = make_weights(SHORT)
    optimizer = make(weights, master, moments, offload=offload)
    for weight, gradient in zip(weights, gradients(0), strict=True):
        weight.decoupled_grad = gradient
    with Allocations() as made:
        optimizer.step()
    assert weights[0].numel() > 4 * adamw.SLICE
    assert 0 < made.largest <= 4 * adamw.SLICE
    # two buffers of master and moments, where they come from the host
    buffers = 2 * (master.itemsize + 2 * moments.itemsize) if offload else 0
    assert made.peak <= adamw.SLICE * (memory.SLICE_BYTES + buffers)
    assert made.now == 0


def test_the_estimate_knows_the_slice():
    assert memory.OPTIMIZER_SLICE == SLICE

"""Rows for heads to agree on: some off policy, some masked, some without advantage, in sequences of uneven lengths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from srpo_kernels import Objective, ObjectiveRows, VocabShard, head, reference
from srpo_kernels.reference import HeadOutput
from srpo_kernels.row_operations import operations_for

OBJECTIVES: dict[str, Objective] = {
    "grpo": Objective(),
    "dual_clip_k3": Objective(clip_low=0.2, clip_high=0.28, dual_clip=1.5, kl_coef=0.1),
    "k1_truncate": Objective(kl="k1", kl_coef=0.2, importance="truncate", importance_cap=1.05),
    "k2_entropy": Objective(kl="k2", kl_coef=0.2, entropy_coef=0.05),
    "cispo_icepop": Objective(
        surrogate="cispo", clip_low=1.0, clip_high=0.1, importance="icepop", importance_floor=0.9, importance_cap=1.1
    ),
    "gspo": Objective(ratio="sequence", clip_low=0.02, clip_high=0.02, dual_clip=1.2),
    "gspo_entropy_mask": Objective(
        ratio="sequence", clip_low=0.02, clip_high=0.02, entropy_coef=0.02, importance="sequence_mask",
        importance_floor=0.995, importance_cap=1.005,
    ),
    "grpo_mask": Objective(importance="sequence_mask", importance_floor=0.995, importance_cap=1.005),
    "cispo_mask_kl": Objective(
        surrogate="cispo", clip_low=1.0, clip_high=0.1, kl_coef=0.1, importance="sequence_mask",
        importance_floor=0.995, importance_cap=1.005,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCase:
    hidden: Tensor  # [T, D]
    weight: Tensor  # [V, D]
    loss_rows: Tensor  # [R] int64
    labels: Tensor  # [R] int64
    rows: ObjectiveRows
    vocab: VocabShard = VocabShard()  # noqa: RUF009  frozen

    def exact(self) -> "HeadCase":
        """The same numbers in fp64."""
        rows = {f.name: getattr(self.rows, f.name) for f in fields(self.rows)}
        doubled = {name: t.double() if t is not None and t.is_floating_point() else t for name, t in rows.items()}
        return replace(
            self, hidden=self.hidden.double(), weight=self.weight.double(), rows=ObjectiveRows(**doubled)
        )  # fmt: skip


def make_case(
    lengths: Sequence[int] = (7, 0, 13, 1, 9, 11), *, D: int = 24, V: int = 53, dtype: torch.dtype = torch.float32,
    is_on_policy: bool = False, seed: int = 0, scale: float = 1.0, **vocab: Any,
) -> HeadCase:  # fmt: skip
    """Every fourth sequence has advantage 0, every fifth row weight 0; one label is the last column."""
    chance = torch.Generator().manual_seed(seed)
    R, S = sum(lengths), len(lengths)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance)

    T = R + 9
    hidden, weight = normal(T, D).to(dtype), (normal(V, D) * scale / D**0.5).to(dtype)
    loss_rows = torch.randperm(T, generator=chance)[:R].sort().values
    labels = torch.randint(V, (R,), generator=chance)
    labels[-1:] = V - 1
    counts = torch.tensor(lengths)
    shard = VocabShard(**vocab)
    now, _ = reference.head_logprobs(hidden.double(), weight.double(), loss_rows, labels, vocab=shard)
    old = (now + 0.25 * normal(R)).float()
    rows = ObjectiveRows(
        rollout_logprobs=(now.float() if is_on_policy else old) + 0.05 * normal(R),
        advantages=(normal(S) * (torch.arange(S) % 4 != 3)).repeat_interleave(counts),
        token_weights=(0.5 + torch.rand(R, generator=chance)) * (torch.arange(R) % 5 != 4),
        row_offsets=torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int(),
        old_logprobs=None if is_on_policy else old,
        ref_logprobs=now.float() + 0.3 * normal(R),
    )
    return HeadCase(hidden=hidden, weight=weight, loss_rows=loss_rows, labels=labels, rows=rows, vocab=shard)


def srpo_results(operation: Callable[..., HeadOutput], case: HeadCase, objective: Objective) -> dict[str, Tensor]:
    return results(
        lambda hidden, weight: operation(
            hidden, weight, case.loss_rows, case.labels, case.rows, objective=objective, vocab=case.vocab
        ),
        case,
    )


def results(loss_of: Callable[[Tensor, Tensor], HeadOutput], case: HeadCase) -> dict[str, Tensor]:
    """Everything a head says, by name, and both gradients."""
    hidden, weight = case.hidden.detach().requires_grad_(), case.weight.detach().requires_grad_()
    output = loss_of(hidden, weight)
    output.loss.backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return {
        "loss": output.loss.detach(), "logprobs": output.logprobs, "entropy": output.entropy, "dhidden": hidden.grad,
        "dweight": weight.grad, **{f"metric {name}": value for name, value in output.metrics.items()},
    }  # fmt: skip


def on_device_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads as on a GPU, where no list of rows may come back to the host."""
    monkeypatch.setattr(head, "operations_for", lambda device: replace(operations_for(device), kept_rows=None))


def assert_agree(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float, atol: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(
            value.double(), expected[name].double(), rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )

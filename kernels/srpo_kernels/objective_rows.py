"""What the objective reads of a micro-batch's rows, and what it says of them."""

from dataclasses import dataclass, fields, replace

from torch import Tensor

from srpo_kernels.objective import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveRows:
    """The arguments of srpo_objective that are known before the forward pass; R rows in S sequences."""

    rollout_logprobs: Tensor  # [R] fp32
    advantages: Tensor  # [R] fp32
    token_weights: Tensor  # [R] fp32
    row_offsets: Tensor  # [S + 1] int32, rows row_offsets[s] to row_offsets[s + 1] are those of sequence s
    old_logprobs: Tensor | None = None  # [R] fp32; None: those of this forward pass, in the first update
    ref_logprobs: Tensor | None = None  # [R] fp32; None: there is no KL term

    def check(self, R: int) -> None:
        """Raises ValueError unless every field but the offsets is of R rows."""
        for f in fields(self):
            values = getattr(self, f.name)
            if f.name != "row_offsets" and values is not None and values.shape != (R,):
                raise ValueError(f"expected {f.name} [{R}], one a loss row, got {tuple(values.shape)}")

    def check_offsets(self, R: int) -> None:
        """Raises ValueError unless the offsets cover R rows in order. It waits for their device."""
        offsets = self.row_offsets.tolist()
        if not offsets or offsets[0] != 0 or offsets[-1] != R or offsets != sorted(offsets):
            raise ValueError(f"expected row_offsets from 0 up to {R}, the loss rows, got {offsets}")

    def __getitem__(self, chosen: slice) -> "ObjectiveRows":
        """These rows, with the row_offsets of all: for objectives of tokens, which do not read them."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "row_offsets"}
        return replace(self, **{name: value[chosen] for name, value in values.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveTerms:
    """The loss of rows, and what their gradients are made of."""

    logprobs: Tensor  # [n] fp32
    entropy: Tensor  # [n] fp32
    log_normalizer: Tensor  # [n] fp32
    dlogprobs: Tensor  # [n] fp32, the loss's slope in each log-prob
    dentropy: Tensor  # [n] fp32
    loss: Tensor  # scalar fp32
    metrics: dict[str, Tensor]  # srpo_objective's


def is_token_level(objective: Objective, rows: ObjectiveRows) -> bool:
    """Whether a row's slope depends on its own log-prob alone: then the head needs one pass, else two."""
    masks_by_sequence = objective.importance == "sequence_mask" and rows.old_logprobs is None
    return objective.ratio == "token" and not masks_by_sequence

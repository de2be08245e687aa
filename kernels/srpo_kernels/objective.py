"""The specification of the RL objective: what one update minimises, token by token, as data and as plain PyTorch.

With l_t = logprobs, o_t = old_logprobs, e_t = rollout_logprobs, f_t = ref_logprobs, A_t = advantages,
w_t = token_weights, H_t = entropy, C(x) = clamp(x, -LOG_RATIO_BOUND, LOG_RATIO_BOUND), sg = without gradient:

    loss = - sum_t w_t c_t u_t  +  kl_coef sum_t w_t k_t  -  entropy_coef sum_t w_t H_t

    ratio       token      r_t = exp(C(l_t - o_t))
                sequence   r_t = exp(C(mean over the tokens j of t's sequence of (l_j - o_j))): GSPO's
    surrogate   clipped    u_t = min(r_t A_t, clip(r_t, 1 - clip_low, 1 + clip_high) A_t)
                           with dual_clip = d > 1 and A_t < 0: u_t = max(that, d A_t)
                cispo      u_t = sg(clip(r_t, 1 - clip_low, 1 + clip_high)) A_t l_t: no token loses its gradient
    kl          with d_t = C(f_t - l_t), an estimate of KL(policy || reference) of a token that the policy sampled
                k1: -d_t    k2: d_t^2 / 2    k3: exp(d_t) - 1 - d_t
    importance  with m_t = exp(C(o_t - e_t)): the policy's probability over the engine's, of the weights that sampled
                none: c_t = 1              truncate (TIS): c_t = min(m_t, importance_cap)
                icepop: c_t = m_t if importance_floor <= m_t <= importance_cap, else 0
                sequence_mask: c_t = 1 if the geometric mean of the sequence's m_j is within these bounds, else 0

The weights w_t are each token's share of the whole update (srpo_fast/loss.py says which), so nothing is divided here
and losses add over micro-batches and ranks. c_t has no gradient and multiplies the surrogate only: KL and entropy of a
token that the correction masks still count.

Gradients. C has slope 1 within the bound and 0 beyond it: a token whose log-ratio is past 20 (a factor of 4.8e8) has a
finite loss, and no gradient from that ratio. CISPO's gradient goes through l_t alone and is not affected. On the
policy's own samples the expected gradient of k1 is zero (it is measured but holds nothing back), that of k2 is the one
of KL(policy || reference), that of k3 the one of KL(reference || policy). k3 is never negative and is what SRPO's paper
names.

Where papers and code differ. SRPO's paper names clip and KL and gives no value; its code runs clip 0.2, no KL and no
reference model, and clamps the ratio from above at 3 before it is used: as 1 + clip_high <= 3 that is dual_clip = 3,
for a positive advantage is clipped earlier anyway. Its second codebase uses 0.2 / 0.3, dual clip 3 and k3 at 0.01. GSPO
divides by the sequence, not the token: use it with the `completion` normalizer. CISPO's paper has no lower bound:
clip_low >= 1, as a ratio is never negative. IcePop's authors use bounds 0.5 and 5. Others call "sequence mask" what
also multiplies by the product of the m_j; that product spans orders of magnitude over a long completion, so here the
sequence is only kept or masked, and by the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

Ratio = Literal["token", "sequence"]
Surrogate = Literal["clipped", "cispo"]
KL = Literal["k1", "k2", "k3"]
Importance = Literal["none", "truncate", "icepop", "sequence_mask"]

LOG_RATIO_BOUND = 20.0  # of log-ratios before exp, in nats; exp(20) and its square are far from fp32's limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Which loss, as data. The module's docstring has the equations."""

    ratio: Ratio = "token"
    surrogate: Surrogate = "clipped"
    clip_low: float = 0.2  # how far the ratio may move below 1
    clip_high: float = 0.2  # and above
    dual_clip: float | None = None  # the largest ratio that counts against a negative advantage; None: no limit
    kl: KL = "k3"
    kl_coef: float = 0.0  # 0: no reference policy is needed
    entropy_coef: float = 0.0  # of a bonus
    importance: Importance = "none"
    importance_floor: float = 0.0  # of icepop and sequence_mask
    importance_cap: float = float("inf")  # of all but none

    def __post_init__(self) -> None:
        for name, known in (("ratio", Ratio), ("surrogate", Surrogate), ("kl", KL), ("importance", Importance)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"expected {name} to be one of {get_args(known)}, got {getattr(self, name)!r}")
        for name in ("kl_coef", "entropy_coef"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} to be 0 or more, got {getattr(self, name)}")

    @property
    def trains_zero_advantage(self) -> bool:
        """Whether a token of advantage 0 has a gradient: if not, it need not be computed."""
        return self.kl_coef > 0 or self.entropy_coef > 0

    @property
    def needs_reference(self) -> bool:
        return self.kl_coef > 0


def srpo_objective(
    logprobs: Tensor,
    old_logprobs: Tensor,
    rollout_logprobs: Tensor,
    advantages: Tensor,
    token_weights: Tensor,
    *,
    objective: Objective,
    row_offsets: Tensor,
    ref_logprobs: Tensor | None = None,
    entropy: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of these rows, a scalar, and their metrics: both add over micro-batches and ranks.

    Args:
        logprobs: [R] fp32 or fp64, of the current policy, differentiable.
        old_logprobs: [R], of the policy when the step began; `logprobs` itself in the first update. No gradient.
        rollout_logprobs: [R], reported by the engine.
        advantages: [R].
        token_weights: [R], each token's share in the global loss. A row of weight 0 is padding: it has no loss,
            no gradient and no metric, and, where nothing is summed over its sequence, may hold anything, NaN included.
        row_offsets: [S + 1] int, rows row_offsets[s] to row_offsets[s + 1] are those of sequence s; it covers all rows.
        ref_logprobs: [R], of the reference policy; required if kl_coef > 0, unread else. No gradient.
        entropy: [R] nats, of the current policy; differentiable and required if entropy_coef > 0, else only measured.

    Returns:
        The loss, and sums over the rows whose weight is not 0 (but for ratio_max, their maximum):
        `tokens`: how many; `clipped_low`, `clipped_high`: those whose ratio was so small, or so large, that the clip
        removed its gradient (clipped; dual_clip included) or changed it (cispo);
        `importance_masked`: those with c_t = 0; `ratio_max`: the largest r_t, 0 without rows;
        `mismatch_abs`: |o_t - e_t|; `mismatch_kl`: the k3 estimate of KL(engine || old policy);
        `entropy`: H_t, if given; `kl`: k_t, if kl_coef > 0.
    """
    _check_terms(objective, ref_logprobs, entropy)
    counts = token_weights != 0
    counted = partial(_counted, counts)
    old_logprobs = old_logprobs.detach()
    ratio = _bounded(counted(_LOG_RATIOS[objective.ratio](logprobs - old_logprobs, row_offsets))).exp()
    surrogate = _SURROGATES[objective.surrogate]
    gain, clipped_low, clipped_high = surrogate(ratio, counted(logprobs), counted(advantages), objective)
    mismatch = old_logprobs - rollout_logprobs
    correction = counted(_CORRECTIONS[objective.importance](mismatch, row_offsets, objective))
    loss = -(token_weights * correction * gain).sum()

    metrics = {
        "tokens": counts.to(loss.dtype),
        "clipped_low": clipped_low.to(loss.dtype),
        "clipped_high": clipped_high.to(loss.dtype),
        "importance_masked": (correction == 0).to(loss.dtype),
        "mismatch_abs": mismatch.abs(),
        "mismatch_kl": _k3(_bounded(mismatch)),
    }
    if ref_logprobs is not None and objective.kl_coef > 0:
        metrics["kl"] = _KLS[objective.kl](_bounded(counted(ref_logprobs.detach() - logprobs)))
        loss = loss + objective.kl_coef * (token_weights * metrics["kl"]).sum()
    if entropy is not None:
        metrics["entropy"] = counted(entropy)
        if objective.entropy_coef > 0:
            loss = loss - objective.entropy_coef * (token_weights * metrics["entropy"]).sum()
    return loss, _over_rows(metrics, ratio, counts)


def _counted(counts: Tensor, values: Tensor) -> Tensor:
    """0 in the rows [R] that do not count. Before anything bends the values: the slope of a bend at NaN is NaN, and 0
    times that is too."""
    return values.where(counts, 0.0)


def _check_terms(objective: Objective, ref_logprobs: Tensor | None, entropy: Tensor | None) -> None:
    if objective.kl_coef > 0 and ref_logprobs is None:
        raise ValueError(f"kl_coef={objective.kl_coef} needs ref_logprobs, got None")
    if objective.entropy_coef > 0 and entropy is None:
        raise ValueError(f"entropy_coef={objective.entropy_coef} needs entropy, got None")


def _over_rows(metrics: dict[str, Tensor], ratio: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """The sums, and the largest ratio, over the rows [R] that count."""
    sums = {name: torch.where(counts, value.detach(), 0.0).sum() for name, value in metrics.items()}
    largest = torch.where(counts, ratio.detach(), 0.0)
    return sums | {"ratio_max": torch.cat([largest, largest.new_zeros(1)]).amax()}


def sequence_means(values: Tensor, row_offsets: Tensor) -> Tensor:
    """[R]: at every row the mean of `values` [R] over its sequence's rows."""
    lengths = row_offsets.diff().long()
    owner = torch.arange(len(lengths), device=values.device).repeat_interleave(lengths, output_size=len(values))
    sums = values.new_zeros(len(lengths)).index_add(0, owner, values)
    return (sums / lengths.clamp(min=1))[owner]


def _bounded(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)


def _token_log_ratio(log_ratio: Tensor, row_offsets: Tensor) -> Tensor:
    return log_ratio


_LOG_RATIOS: dict[Ratio, Callable[[Tensor, Tensor], Tensor]] = {"token": _token_log_ratio, "sequence": sequence_means}


def _clipped(ratio: Tensor, logprobs: Tensor, advantages: Tensor, o: Objective) -> tuple[Tensor, Tensor, Tensor]:
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - o.clip_low, 1 + o.clip_high) * advantages)
    too_high = (advantages > 0) & (ratio > 1 + o.clip_high)
    if o.dual_clip is not None:
        gain = torch.where(advantages < 0, torch.maximum(gain, o.dual_clip * advantages), gain)
        too_high = too_high | ((advantages < 0) & (ratio > o.dual_clip))
    return gain, (advantages < 0) & (ratio < 1 - o.clip_low), too_high


def _cispo(ratio: Tensor, logprobs: Tensor, advantages: Tensor, o: Objective) -> tuple[Tensor, Tensor, Tensor]:
    weight = ratio.detach().clamp(1 - o.clip_low, 1 + o.clip_high)
    return weight * advantages * logprobs, ratio < 1 - o.clip_low, ratio > 1 + o.clip_high


# [R] ratio, logprobs, advantages -> [R] what is maximised, [R] bool cut from below, [R] bool cut from above
_SURROGATES: dict[Surrogate, Callable[[Tensor, Tensor, Tensor, Objective], tuple[Tensor, Tensor, Tensor]]] = {
    "clipped": _clipped,
    "cispo": _cispo,
}


def _k1(log_ratio: Tensor) -> Tensor:
    return -log_ratio


def _k2(log_ratio: Tensor) -> Tensor:
    return log_ratio.square() / 2


def _k3(log_ratio: Tensor) -> Tensor:
    return log_ratio.expm1() - log_ratio


_KLS: dict[KL, Callable[[Tensor], Tensor]] = {"k1": _k1, "k2": _k2, "k3": _k3}


def _uncorrected(mismatch: Tensor, row_offsets: Tensor, o: Objective) -> Tensor:
    return torch.ones_like(mismatch)


def _truncated(mismatch: Tensor, row_offsets: Tensor, o: Objective) -> Tensor:
    return _bounded(mismatch).exp().clamp(max=o.importance_cap)


def _icepop(mismatch: Tensor, row_offsets: Tensor, o: Objective) -> Tensor:
    weight = _bounded(mismatch).exp()
    return torch.where((weight >= o.importance_floor) & (weight <= o.importance_cap), weight, 0.0)


def sequence_mask(mismatch: Tensor, row_offsets: Tensor, o: Objective) -> Tensor:
    """[R]: 1, or 0 in sequences whose mean log-ratio `mismatch` [R] of policy to engine is out of bounds."""
    mean = _bounded(sequence_means(mismatch, row_offsets)).exp()
    return ((mean >= o.importance_floor) & (mean <= o.importance_cap)).to(mismatch.dtype)


_CORRECTIONS: dict[Importance, Callable[[Tensor, Tensor, Objective], Tensor]] = {
    "none": _uncorrected,
    "truncate": _truncated,
    "icepop": _icepop,
    "sequence_mask": sequence_mask,
}

"""All ranks' statistics of a chunk's rows in; its loss, metrics and slopes out, in one launch of one program.

A chunk has some thousands of rows, microseconds of work beside milliseconds of matrix products; one program adds the
sums up in one order, without another launch.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from srpo_kernels.objective import Objective
from srpo_kernels.objective_rows import ObjectiveRows, ObjectiveTerms
from srpo_kernels.triton_rows.launches import launches_on
from srpo_kernels.triton_rows.objective_terms import bounded, correction, divergence, excess_exp, surrogate

_TOTALS = (
    "loss", "tokens", "clipped_low", "clipped_high", "importance_masked", "mismatch_abs", "mismatch_kl", "entropy",
    "kl", "ratio_max",
)  # fmt: skip


def objective_rows(statistics: Tensor, rows: ObjectiveRows, *, objective: Objective) -> ObjectiveTerms:
    """As the twin, for objectives of tokens alone: a chunk cuts sequences, so what needs whole ones is not here."""
    if objective.ratio == "sequence" or objective.importance == "sequence_mask":
        raise ValueError(f"expected an objective of tokens, got ratio={objective.ratio}, {objective.importance}")
    if objective.kl_coef > 0 and rows.ref_logprobs is None:
        raise ValueError(f"kl_coef={objective.kl_coef} needs ref_logprobs, got None")
    n = statistics.shape[2]
    terms = torch.empty(5, n, dtype=torch.float32, device=statistics.device)
    totals = torch.empty(len(_TOTALS), dtype=torch.float32, device=statistics.device)
    _launch(statistics.contiguous(), rows, terms, totals, objective)
    metrics = dict(zip(_TOTALS, totals.unbind(), strict=True))
    loss = metrics.pop("loss")
    if objective.kl_coef == 0:
        del metrics["kl"]
    logprobs, entropy, log_normalizer, dlogprobs, dentropy = terms.unbind()
    return ObjectiveTerms(
        logprobs=logprobs, entropy=entropy, log_normalizer=log_normalizer, dlogprobs=dlogprobs, dentropy=dentropy,
        loss=loss, metrics=metrics,
    )  # fmt: skip


def _launch(statistics: Tensor, rows: ObjectiveRows, terms: Tensor, totals: Tensor, objective: Objective) -> None:
    W, _, n = statistics.shape
    launch = launches_on(statistics.device).objective_rows
    _objective_rows[1,](
        statistics, rows.rollout_logprobs, rows.advantages, rows.token_weights, rows.old_logprobs,
        rows.ref_logprobs if objective.kl_coef > 0 else None, terms, totals, n, 1 - objective.clip_low,
        1 + objective.clip_high, math.inf if objective.dual_clip is None else objective.dual_clip, objective.kl_coef,
        objective.entropy_coef, objective.importance_floor, objective.importance_cap, RANKS=W,
        SURROGATE=objective.surrogate, KL=objective.kl, IMPORTANCE=objective.importance, BLOCK=launch.block,
        num_warps=launch.warps,
    )  # fmt: skip


@triton.jit
def merge_ranks(statistics, rows, n, RANKS: tl.constexpr):
    """(logprobs, entropy, log_normalizer) of rows, the ranks' statistics [RANKS, 4, n] merged in their order."""
    inside = rows < n
    top = tl.load(statistics + rows, mask=inside, other=0)
    for rank in tl.static_range(1, RANKS):
        top = tl.maximum(top, tl.load(statistics + 4 * rank * n + rows, mask=inside, other=0))
    total = tl.zeros(rows.shape, tl.float32)
    moment = tl.zeros(rows.shape, tl.float32)
    label_score = tl.zeros(rows.shape, tl.float32)
    for rank in tl.static_range(RANKS):
        of_rank = statistics + 4 * rank * n + rows
        shift = tl.load(of_rank, mask=inside, other=0) - top
        kept = tl.exp(shift)
        mass = tl.load(of_rank + n, mask=inside, other=1)
        total += mass * kept
        moment += (tl.load(of_rank + 2 * n, mask=inside, other=0) + mass * shift) * kept
        label_score += tl.load(of_rank + 3 * n, mask=inside, other=0)
    log_total = tl.log(total)
    return label_score - top - log_total, log_total - moment / total, top + log_total


@triton.jit
def store_terms(terms, rows, n, logprobs, entropy, log_normalizer, dlogprobs, dentropy):
    inside = rows < n
    tl.store(terms + rows, logprobs, mask=inside)
    tl.store(terms + n + rows, entropy, mask=inside)
    tl.store(terms + 2 * n + rows, log_normalizer, mask=inside)
    tl.store(terms + 3 * n + rows, dlogprobs, mask=inside)
    tl.store(terms + 4 * n + rows, dentropy, mask=inside)


@triton.jit(
    do_not_specialize=["n"],
    do_not_specialize_on_alignment=["rollout", "advantages", "weights", "old", "reference"],
)
def _objective_rows(
    statistics, rollout, advantages, weights, old, reference, terms, totals, n, low, high, dual_clip, kl_coef,
    entropy_coef, floor, cap, RANKS: tl.constexpr, SURROGATE: tl.constexpr, KL: tl.constexpr,
    IMPORTANCE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    loss = tl.zeros([BLOCK], tl.float32)
    tokens = tl.zeros([BLOCK], tl.float32)
    clipped_low = tl.zeros([BLOCK], tl.float32)
    clipped_high = tl.zeros([BLOCK], tl.float32)
    masked = tl.zeros([BLOCK], tl.float32)
    mismatch_abs = tl.zeros([BLOCK], tl.float32)
    mismatch_kl = tl.zeros([BLOCK], tl.float32)
    entropies = tl.zeros([BLOCK], tl.float32)
    kls = tl.zeros([BLOCK], tl.float32)
    ratio_max = tl.zeros([BLOCK], tl.float32)
    for first in range(0, n, BLOCK):
        rows = first + tl.arange(0, BLOCK)
        inside = rows < n
        logprobs, entropy, log_normalizer = merge_ranks(statistics, rows, n, RANKS)
        weight = tl.load(weights + rows, mask=inside, other=0)
        counts = weight != 0
        before = logprobs
        if old is not None:
            before = tl.load(old + rows, mask=inside, other=0)
        ratio, gain, slope, too_low, too_high = surrogate(
            logprobs - before, logprobs, tl.load(advantages + rows, mask=inside, other=0), low, high, dual_clip,
            SURROGATE,
        )  # fmt: skip
        mismatch = before - tl.load(rollout + rows, mask=inside, other=0)
        corrected = correction(mismatch, floor, cap, IMPORTANCE)
        value = -corrected * gain
        slope = -corrected * slope
        if reference is not None:
            kl, kl_slope = divergence(tl.load(reference + rows, mask=inside, other=0) - logprobs, KL)
            value += kl_coef * kl
            slope += kl_coef * kl_slope
            kls += tl.where(counts, kl, 0.0)

        slope = tl.where(counts, weight * slope, 0.0)  # padding may hold NaN
        store_terms(terms, rows, n, logprobs, entropy, log_normalizer, slope, -entropy_coef * weight)
        loss += tl.where(counts, weight * (value - entropy_coef * entropy), 0.0)
        tokens += tl.where(counts, 1.0, 0.0)
        clipped_low += tl.where(counts & too_low, 1.0, 0.0)
        clipped_high += tl.where(counts & too_high, 1.0, 0.0)
        masked += tl.where(counts & (corrected == 0), 1.0, 0.0)
        mismatch_abs += tl.where(counts, tl.abs(mismatch), 0.0)
        mismatch_kl += tl.where(counts, excess_exp(bounded(mismatch)), 0.0)
        entropies += tl.where(counts, entropy, 0.0)
        ratio_max = tl.maximum(ratio_max, tl.where(counts, ratio, 0.0))
    tl.store(totals, tl.sum(loss, 0))
    tl.store(totals + 1, tl.sum(tokens, 0))
    tl.store(totals + 2, tl.sum(clipped_low, 0))
    tl.store(totals + 3, tl.sum(clipped_high, 0))
    tl.store(totals + 4, tl.sum(masked, 0))
    tl.store(totals + 5, tl.sum(mismatch_abs, 0))
    tl.store(totals + 6, tl.sum(mismatch_kl, 0))
    tl.store(totals + 7, tl.sum(entropies, 0))
    tl.store(totals + 8, tl.sum(kls, 0))
    tl.store(totals + 9, tl.max(ratio_max, 0))

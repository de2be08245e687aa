"""The equations of objective.py for one token, values and slopes, as device functions; arguments are blocks of rows.

A row that is not a number stays so in loss and slope, as in PyTorch: Triton's minimum and maximum drop NaN by default.
"""

import triton
import triton.language as tl

from srpo_kernels.objective import LOG_RATIO_BOUND

BOUND = tl.constexpr(LOG_RATIO_BOUND)


@triton.jit
def clamp(values, low, high):
    return tl.clamp(values, low, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def bounded(log_ratio):
    return clamp(log_ratio, -BOUND, BOUND)


@triton.jit
def excess_exp(d):
    """exp(d) - 1 - d; by its series near 0, where the difference would lose all digits."""
    series = 1 + d / 7 * (1 + d / 8 * (1 + d / 9))
    series = 1 + d / 3 * (1 + d / 4 * (1 + d / 5 * (1 + d / 6 * series)))
    return tl.where(tl.abs(d) < 0.5, d * d / 2 * series, tl.exp(d) - 1 - d)


@triton.jit
def surrogate(log_ratio, logprobs, advantages, low, high, dual_clip, KIND: tl.constexpr):
    """(ratio, gain u, du/dlogprob, whether the clip cut from below, from above)."""
    ratio = tl.exp(bounded(log_ratio))
    if KIND == "cispo":
        slope = clamp(ratio, low, high) * advantages
        gain = slope * logprobs
        too_low = ratio < low
        too_high = ratio > high
    else:
        is_loss = advantages < 0
        gain = tl.minimum(ratio * advantages, clamp(ratio, low, high) * advantages)
        gain = tl.where(is_loss & (ratio > dual_clip), dual_clip * advantages, gain)
        too_low = is_loss & (ratio < low)
        too_high = ((advantages > 0) & (ratio > high)) | (is_loss & (ratio > dual_clip))
        slope = tl.where((tl.abs(log_ratio) > BOUND) | too_low | too_high, 0.0, ratio * advantages)
    return ratio, gain, slope, too_low, too_high


@triton.jit
def correction(mismatch, floor, cap, KIND: tl.constexpr):
    """c, from the log of the policy's probability over the engine's."""
    weight = tl.exp(bounded(mismatch))
    if KIND == "none":
        weight = tl.full(mismatch.shape, 1.0, tl.float32)
    elif KIND == "truncate":
        weight = tl.minimum(weight, cap, propagate_nan=tl.PropagateNan.ALL)
    else:
        weight = tl.where((weight >= floor) & (weight <= cap), weight, 0.0)
    return weight


@triton.jit
def divergence(log_ratio, KIND: tl.constexpr):
    """(k, dk/dlogprob), from the log of the reference's probability over the policy's."""
    d = bounded(log_ratio)
    if KIND == "k1":
        value = -d
        slope = tl.full(d.shape, 1.0, tl.float32)
    elif KIND == "k2":
        value = d * d / 2
        slope = -d
    else:
        value = excess_exp(d)
        slope = -(value + d)
    return value, tl.where(tl.abs(log_ratio) > BOUND, 0.0, slope)

// The inner loops in terms of `Lanes`, WIDTH floats that the including file has defined for its instruction set. It
// is compiled with flags that not every processor understands, so everything here is in an anonymous namespace.
#pragma once

#include "row_blocks.h"

namespace {

constexpr float LOWEST = -87.0f;  // e^x is taken as 0 from here down; what is above stays a normal number

// s of e^x = (1 + s) 2^n and the power of two. x = n ln 2 + r, |r| <= ln 2 / 2; s = r + r^2 q(r), q a minimax
// polynomial of degree 4: below 1 ulp in all (tests/ops/test_row_kernels.py).
struct Exp {
    Lanes s, power;
    Lanes value() const { return fma(s, power, power); }
};

inline Exp exp_parts(Lanes x) {
    const Lanes magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const Lanes t = fma(x, splat(1.44269502f), magic);
    const Lanes n = sub(t, magic);
    const Lanes r = fma(n, splat(-0x1.7f7d1cp-20f), fma(n, splat(-0x1.62e4p-1f), x));
    Lanes q = fma(splat(0x1.6a2446p-10f), r, splat(0x1.1239e2p-7f));
    q = fma(q, r, splat(0x1.5558f2p-5f));
    q = fma(q, r, splat(0x1.555492p-3f));
    q = fma(q, r, splat(0x1.fffffcp-2f));
    return {fma(mul(q, r), r, r), power_of_two(t)};
}

// e^x, 0 where x is at most LOWEST; NaN stays NaN. `x` comes back no lower than LOWEST, so that 0 times it is 0.
inline Lanes bounded_exp(Lanes& x) {
    x = max(splat(LOWEST), x);
    return zero_unless_above(exp_parts(x).value(), x, splat(LOWEST));
}

float block_highest(const float* x, int64_t count) {
    Lanes highest = load(x);
    for (int64_t i = WIDTH; i < count; i += WIDTH) highest = max(load(x + i), highest);
    return largest(highest);
}

BlockSums block_sums(const float* x, int64_t count, float highest, float inverse_temperature) {
    constexpr int CHAINS = 4;  // sums are independent of one another for so many steps: an addition takes that long
    Lanes mass[CHAINS], moment[CHAINS];
    for (int c = 0; c < CHAINS; ++c) mass[c] = moment[c] = splat(0.0f);
    const Lanes top = splat(highest), scale = splat(inverse_temperature);
    const auto add_columns = [&](int64_t i, int c) {
        Lanes below = mul(sub(load(x + i), top), scale);
        const Lanes e = bounded_exp(below);
        mass[c] = add(mass[c], e);
        moment[c] = fma(e, below, moment[c]);
    };
    int64_t i = 0;
    for (; i + CHAINS * WIDTH <= count; i += CHAINS * WIDTH) {
        for (int c = 0; c < CHAINS; ++c) add_columns(i + c * WIDTH, c);
    }
    for (; i < count; i += WIDTH) add_columns(i, 0);
    return {total(add(add(mass[0], mass[1]), add(mass[2], mass[3]))),
            total(add(add(moment[0], moment[1]), add(moment[2], moment[3])))};
}

template <typename Out>
void block_gradient(const float* x, int64_t count, const GradientRow& row, Out* out) {
    const Lanes shift = splat(row.shift), rest = splat(row.shift_rest), scale = splat(row.inverse_temperature);
    const Lanes constant = splat(row.constant), slope = splat(row.slope);
    for (int64_t i = 0; i < count; i += WIDTH) {
        Lanes log_p = mul(sub(sub(load(x + i), shift), rest), scale);
        const Lanes p = bounded_exp(log_p);
        store(out + i, mul(p, fma(slope, log_p, constant)));
    }
}

void block_exp(const float* x, int64_t count, float* out) {
    for (int64_t i = 0; i < count; i += WIDTH) {
        Lanes bounded = load(x + i);
        store(out + i, bounded_exp(bounded));
    }
}

constexpr RowBlocks THESE_BLOCKS = {block_highest, block_sums, block_gradient<float>, block_gradient<uint16_t>,
                                    block_exp};

}  // namespace

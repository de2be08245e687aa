// For every processor: loops that a compiler turns into whatever vectors it may use. Without fused multiply-add the
// last bits differ from those of the other versions.
#include <cmath>
#include <cstring>

#include "row_blocks.h"

namespace {

struct Lanes {
    float v[WIDTH];
};

template <typename Operation>
inline Lanes each(Operation operation) {
    Lanes result;
    for (int64_t i = 0; i < WIDTH; ++i) result.v[i] = operation(i);
    return result;
}

inline Lanes load(const float* x) {
    return each([&](int64_t i) { return x[i]; });
}
inline Lanes splat(float x) {
    return each([&](int64_t) { return x; });
}
inline Lanes add(const Lanes& a, const Lanes& b) {
    return each([&](int64_t i) { return a.v[i] + b.v[i]; });
}
inline Lanes sub(const Lanes& a, const Lanes& b) {
    return each([&](int64_t i) { return a.v[i] - b.v[i]; });
}
inline Lanes mul(const Lanes& a, const Lanes& b) {
    return each([&](int64_t i) { return a.v[i] * b.v[i]; });
}
inline Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
#ifdef FP_FAST_FMAF
    return each([&](int64_t i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
#else
    return each([&](int64_t i) { return a.v[i] * b.v[i] + c.v[i]; });
#endif
}
inline Lanes max(const Lanes& a, const Lanes& b) {  // b where one is NaN
    return each([&](int64_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}

inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline Lanes power_of_two(const Lanes& t) {  // the integer in the low bits of t
    return each([&](int64_t i) {
        const uint32_t bits = (bits_of(t.v[i]) + 127u) << 23;
        float power;
        std::memcpy(&power, &bits, sizeof power);
        return power;
    });
}

inline Lanes zero_unless_above(const Lanes& value, const Lanes& x, const Lanes& bound) {
    return each([&](int64_t i) { return x.v[i] <= bound.v[i] ? 0.0f : value.v[i]; });
}

inline float total(Lanes a) {
    for (int64_t half = WIDTH / 2; half > 0; half /= 2) {
        for (int64_t i = 0; i < half; ++i) a.v[i] += a.v[i + half];
    }
    return a.v[0];
}

inline float largest(Lanes a) {
    for (int64_t half = WIDTH / 2; half > 0; half /= 2) {
        for (int64_t i = 0; i < half; ++i) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
    }
    return a.v[0];
}

inline void store(float* out, const Lanes& a) {
    for (int64_t i = 0; i < WIDTH; ++i) out[i] = a.v[i];
}

inline void store(uint16_t* out, const Lanes& a) {  // bf16, to nearest even
    for (int64_t i = 0; i < WIDTH; ++i) {
        const uint32_t bits = bits_of(a.v[i]);
        const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        out[i] = static_cast<uint16_t>(a.v[i] != a.v[i] ? 0x7fc0u : rounded);
    }
}

}  // namespace

#include "row_blocks_lanes.h"

const RowBlocks ROW_BLOCKS_PLAIN = THESE_BLOCKS;

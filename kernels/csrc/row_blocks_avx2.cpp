// Compiled for AVX2 and FMA. Two registers hold the 16 lanes; the steps and their rounding are those of AVX-512.
#include <immintrin.h>

#include "row_blocks.h"

namespace {

struct Lanes {
    __m256 low, high;
};

inline Lanes load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
inline Lanes splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Lanes add(Lanes a, Lanes b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Lanes sub(Lanes a, Lanes b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Lanes mul(Lanes a, Lanes b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Lanes max(Lanes a, Lanes b) {  // b where one is NaN
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}

inline __m256 power_of_two(__m256 t) {
    const __m256i exponent = _mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline Lanes power_of_two(Lanes t) { return {power_of_two(t.low), power_of_two(t.high)}; }

inline Lanes zero_unless_above(Lanes value, Lanes x, Lanes bound) {
    return {_mm256_and_ps(value.low, _mm256_cmp_ps(x.low, bound.low, _CMP_NLE_UQ)),
            _mm256_and_ps(value.high, _mm256_cmp_ps(x.high, bound.high, _CMP_NLE_UQ))};
}

inline __m256 upper(Lanes a) { return a.high; }
inline __m256 lower(Lanes a) { return a.low; }

inline void store(float* out, Lanes a) {
    _mm256_storeu_ps(out, a.low);
    _mm256_storeu_ps(out + 8, a.high);
}

inline __m256i bf16_bits(__m256 a) {  // to nearest even, one in the low half of every 32 bits
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(rounded, 16), _mm256_set1_epi32(0x7fc0), is_nan);
}

inline void store(uint16_t* out, Lanes a) {
    const __m256i packed = _mm256_packus_epi32(bf16_bits(a.low), bf16_bits(a.high));  // halves of halves in turns
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute4x64_epi64(packed, 0b11011000));
}

}  // namespace

#include "row_blocks_folds.h"
#include "row_blocks_lanes.h"

const RowBlocks ROW_BLOCKS_AVX2 = THESE_BLOCKS;

// Compiled for AVX-512F. A register holds all 16 lanes.
#include <immintrin.h>

#include "row_blocks.h"

namespace {

struct Lanes {
    __m512 v;
};

inline Lanes load(const float* x) { return {_mm512_loadu_ps(x)}; }
inline Lanes splat(float x) { return {_mm512_set1_ps(x)}; }
inline Lanes add(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes sub(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes mul(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Lanes max(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }  // b where one is NaN

inline Lanes power_of_two(Lanes t) {  // the integer in the low bits of t
    const __m512i exponent = _mm512_add_epi32(_mm512_castps_si512(t.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
}

inline Lanes zero_unless_above(Lanes value, Lanes x, Lanes bound) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, bound.v, _CMP_NLE_UQ), value.v)};
}

inline __m256 upper(Lanes a) { return _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(a.v), 1)); }
inline __m256 lower(Lanes a) { return _mm512_castps512_ps256(a.v); }

inline void store(float* out, Lanes a) { _mm512_storeu_ps(out, a.v); }

inline void store(uint16_t* out, Lanes a) {  // bf16, to nearest even
    const __m512i bits = _mm512_castps_si512(a.v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
    rounded = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(rounded));
}

}  // namespace

#include "row_blocks_folds.h"
#include "row_blocks_lanes.h"

const RowBlocks ROW_BLOCKS_AVX512 = THESE_BLOCKS;

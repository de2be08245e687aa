// The sum and the largest of 16 lanes on x86, in one order: lane i with i + 8, then i + 4, i + 2, i + 1.
#pragma once

#include <immintrin.h>

namespace {

inline float total(Lanes a) {
    const __m256 eight = _mm256_add_ps(lower(a), upper(a));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}

inline float largest(Lanes a) {
    const __m256 eight = _mm256_max_ps(lower(a), upper(a));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}

}  // namespace

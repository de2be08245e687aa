// The C interface of libsrpo_native. Callers own every buffer and have checked sizes and types; the specification of
// each function is the one of its name in srpo_kernels/reference.
#pragma once

#include <cstdint>

// srpo_kernels/native.py refuses a library of another version: raise both with any change of a signature.
#define SRPO_ABI_VERSION 2

#define SRPO_API extern "C" __attribute__((visibility("default")))

SRPO_API int32_t srpo_abi_version();

SRPO_API void srpo_pack_sequences(const int64_t* lengths, int64_t num_sequences, int64_t budget, int64_t* bins);

// The instructions that row operations use: SRPO_ISA_BEST is what this processor has. AVX2 and AVX-512 give the same
// bits; so does any number of threads.
enum SrpoIsa : int32_t { SRPO_ISA_BEST = 0, SRPO_ISA_PLAIN = 1, SRPO_ISA_AVX2 = 2, SRPO_ISA_AVX512 = 3 };

// 1 when `isa` runs here, else 0.
SRPO_API int32_t srpo_has_isa(int32_t isa);

// n rows of this rank's columns of the logits, `row_stride` elements apart; fp32, or bf16 where `is_bf16`.
struct SrpoLogits {
    void* data;
    int64_t num_rows;
    int64_t num_columns;
    int64_t row_stride;
    const int64_t* labels;          // [num_rows] token ids
    int64_t first_token;            // of the first column
    const int64_t* banned_columns;  // [num_banned], any order
    int64_t num_banned;
    double temperature;  // not fp32: at scores of 200 its rounding would show
    float banned_bias;
    int32_t is_bf16;
    int32_t num_threads;
    int32_t isa;  // SrpoIsa
};

// statistics [4, num_rows]
SRPO_API void srpo_row_statistics(const SrpoLogits* logits, float* statistics);

// dentropy may be null. out [num_rows, num_columns], `out_stride` elements apart: of its own, or the storage of the
// logits with the rows in their places, where an element of it may be smaller than a logit.
SRPO_API void srpo_row_gradient(const SrpoLogits* logits, const float* entropy, const float* log_normalizer,
                                const float* dlogprobs, const float* dentropy, void* out, int64_t out_stride,
                                int32_t out_is_bf16);

// Writes ascending row numbers to kept [num_rows], returns how many. row_offsets [num_sequences + 1]; null where a row
// is kept for itself. advantages may be null: then rows of advantage 0 are kept.
SRPO_API int64_t srpo_kept_rows(const float* token_weights, const float* advantages, int64_t num_rows,
                                const int32_t* row_offsets, int64_t num_sequences, int64_t* kept);

// e^x of x <= 88 as the row operations take it, 0 below -87: for the test of its accuracy. count a multiple of 16.
SRPO_API void srpo_exp(const float* x, int64_t count, float* out, int32_t isa);

// A table of sync_copy.h on CPUs.
struct SrpoRowCopy;
SRPO_API void srpo_sync_copy_on_cpu(const SrpoRowCopy* copies, int32_t num_copies, int64_t num_tiles,
                                    int32_t num_threads);

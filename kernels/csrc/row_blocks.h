// The inner loops over the columns of a row, once for every instruction set. A block is a few cache lines of fp32
// logits, its length a multiple of WIDTH.
#pragma once

#include <cstdint>

constexpr int64_t WIDTH = 16;    // the columns that are taken at once, whatever the registers' size
constexpr int64_t BLOCK = 2048;  // columns; 8 KiB, so that the second pass over a block reads the first-level cache

struct BlockSums {
    float mass;    // sum exp(d) over the columns, d = (logit - highest) / temperature
    float moment;  // sum exp(d) d
};

// A row's gradient is exp(x) (constant + slope x) of its scaled logits x = (logit - shift) / temperature.
struct GradientRow {
    float shift, shift_rest;  // their sum is the shift: it has to be finer than the logits are
    float inverse_temperature;
    float constant, slope;
};

struct RowBlocks {
    float (*highest)(const float* x, int64_t count);
    BlockSums (*sums)(const float* x, int64_t count, float highest, float inverse_temperature);
    void (*gradient)(const float* x, int64_t count, const GradientRow& row, float* out);
    void (*gradient_bf16)(const float* x, int64_t count, const GradientRow& row, uint16_t* out);
    void (*exp)(const float* x, int64_t count, float* out);
};

extern const RowBlocks ROW_BLOCKS_PLAIN;
#ifdef SRPO_X86
extern const RowBlocks ROW_BLOCKS_AVX2;
extern const RowBlocks ROW_BLOCKS_AVX512;
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "parallel_rows.h"
#include "row_blocks.h"
#include "srpo_native.h"

#ifdef SRPO_X86
#include <immintrin.h>
#endif

namespace {

constexpr float INFINITE = std::numeric_limits<float>::infinity();

// Numbers below 2^-126 are taken as 0 in this thread: products of probabilities reach them, and each costs 100 cycles.
class FlushToZero {
public:
#ifdef SRPO_X86
    FlushToZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushToZero() { _mm_setcsr(before_); }

private:
    unsigned before_;
#endif
};

const RowBlocks& blocks_of(int32_t isa) {
#ifdef SRPO_X86
    if (isa == SRPO_ISA_AVX512 || (isa == SRPO_ISA_BEST && srpo_has_isa(SRPO_ISA_AVX512))) return ROW_BLOCKS_AVX512;
    if (isa == SRPO_ISA_AVX2 || (isa == SRPO_ISA_BEST && srpo_has_isa(SRPO_ISA_AVX2))) return ROW_BLOCKS_AVX2;
#endif
    (void)isa;
    return ROW_BLOCKS_PLAIN;
}

float from_bf16(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

int64_t padded(int64_t count) { return (count + WIDTH - 1) / WIDTH * WIDTH; }

// Blocks of fp32 logits with their bias, of a length that the inner loops can take.
class Reader {
public:
    explicit Reader(const SrpoLogits& logits) : logits_(logits) {
        for (int64_t i = 0; i < logits.num_banned; ++i) {
            const int64_t column = logits.banned_columns[i];
            if (column >= 0 && column < logits.num_columns) banned_.push_back(column);
        }
        std::sort(banned_.begin(), banned_.end());
        banned_.erase(std::unique(banned_.begin(), banned_.end()), banned_.end());
    }

    // The block's logits; in `scratch` [BLOCK] where they cannot be read in place, then padded with -inf.
    const float* block(int64_t row, int64_t first, int64_t count, float* scratch) const {
        const auto banned = std::lower_bound(banned_.begin(), banned_.end(), first);
        const bool has_banned = banned != banned_.end() && *banned < first + count;
        if (!logits_.is_bf16 && !has_banned && count == padded(count)) return floats(row) + first;
        if (logits_.is_bf16) {
            const uint16_t* from = static_cast<const uint16_t*>(logits_.data) + row * logits_.row_stride + first;
            for (int64_t i = 0; i < count; ++i) scratch[i] = from_bf16(from[i]);
        } else {
            std::copy_n(floats(row) + first, count, scratch);
        }
        std::fill(scratch + count, scratch + padded(count), -INFINITE);
        for (auto column = banned; column != banned_.end() && *column < first + count; ++column) {
            scratch[*column - first] += logits_.banned_bias;
        }
        return scratch;
    }

    // The logit with its bias.
    float at(int64_t row, int64_t column) const {
        const float logit = logits_.is_bf16
            ? from_bf16(static_cast<const uint16_t*>(logits_.data)[row * logits_.row_stride + column])
            : floats(row)[column];
        return std::binary_search(banned_.begin(), banned_.end(), column) ? logit + logits_.banned_bias : logit;
    }

    // The label's column, or -1 where another rank holds it.
    int64_t label_column(int64_t row) const {
        const int64_t column = logits_.labels[row] - logits_.first_token;
        return column >= 0 && column < logits_.num_columns ? column : -1;
    }

private:
    const float* floats(int64_t row) const {
        return static_cast<const float*>(logits_.data) + row * logits_.row_stride;
    }

    const SrpoLogits& logits_;
    std::vector<int64_t> banned_;
};

struct Statistics {
    float highest = -INFINITE;  // logit, not yet divided by the temperature
    double mass = 0.0, moment = 0.0;

    // Sums are taken below the highest logit so far, once a block, and moved when a later block goes higher.
    void add(const RowBlocks& blocks, const float* x, int64_t count, float inverse_temperature) {
        const float block_highest = blocks.highest(x, count);
        if (block_highest > highest) {
            const double shift = (static_cast<double>(highest) - block_highest) * inverse_temperature;
            const double scale = std::exp(shift);
            moment = mass > 0 ? (moment + mass * shift) * scale : moment;
            mass *= scale;
            highest = block_highest;
        }
        // nothing but -inf so far: below 0 it has no mass, below itself it would be NaN
        const BlockSums sums = blocks.sums(x, count, highest == -INFINITE ? 0.0f : highest, inverse_temperature);
        mass += sums.mass;
        moment += sums.moment;
    }
};

void row_statistics(const SrpoLogits& logits, const Reader& reader, const RowBlocks& blocks, int64_t row, float* out) {
    alignas(64) float scratch[BLOCK];
    const float inverse = static_cast<float>(1.0 / logits.temperature);
    Statistics found;
    for (int64_t first = 0; first < logits.num_columns; first += BLOCK) {
        const int64_t count = std::min(BLOCK, logits.num_columns - first);
        found.add(blocks, reader.block(row, first, count, scratch), padded(count), inverse);
    }
    const int64_t label = reader.label_column(row);
    out[row] = static_cast<float>(found.highest / logits.temperature);
    out[row + logits.num_rows] = static_cast<float>(found.mass);
    out[row + 2 * logits.num_rows] = static_cast<float>(found.moment);
    out[row + 3 * logits.num_rows] = label < 0 ? 0.0f : static_cast<float>(reader.at(row, label) / logits.temperature);
}

void write_block(const RowBlocks& blocks, const float* x, int64_t count, const GradientRow& row, float* out) {
    blocks.gradient(x, count, row, out);
}
void write_block(const RowBlocks& blocks, const float* x, int64_t count, const GradientRow& row, uint16_t* out) {
    blocks.gradient_bf16(x, count, row, out);
}

// One element by itself, where the label's 1 has to be added before rounding: log p, p and the rest in double.
double gradient_at(double logit, const GradientRow& row, double label_term) {
    const double log_p = (logit - row.shift - row.shift_rest) * row.inverse_temperature;
    const double p = std::exp(log_p);
    return p > 0.0 ? p * (row.slope * log_p + row.constant) + label_term : p + label_term;  // -inf has no product
}

void put(double value, float* out) { *out = static_cast<float>(value); }
void put(double value, uint16_t* out) {
    const float rounded = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &rounded, sizeof bits);
    const uint32_t nearest = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    *out = static_cast<uint16_t>(std::isnan(rounded) ? 0x7fc0u : nearest);
}

template <typename Out>
void row_gradient(const SrpoLogits& logits, const Reader& reader, const RowBlocks& blocks, int64_t row,
                  const GradientRow& terms, double label_term, Out* out) {
    alignas(64) float scratch[BLOCK];
    const int64_t label = reader.label_column(row);
    const float label_logit = label < 0 ? 0.0f : reader.at(row, label);  // out may lie over it
    for (int64_t first = 0; first < logits.num_columns; first += BLOCK) {
        const int64_t count = std::min(BLOCK, logits.num_columns - first);
        const float* x = reader.block(row, first, count, scratch);
        if (count == padded(count)) {
            write_block(blocks, x, count, terms, out + first);
        } else {
            alignas(64) Out tail[BLOCK];
            write_block(blocks, x, padded(count), terms, tail);
            std::copy_n(tail, count, out + first);
        }
    }
    if (label >= 0) put(gradient_at(label_logit, terms, label_term), out + label);
}

}  // namespace

int32_t srpo_has_isa(int32_t isa) {
    if (isa == SRPO_ISA_BEST || isa == SRPO_ISA_PLAIN) return 1;
#ifdef SRPO_X86
    if (isa == SRPO_ISA_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == SRPO_ISA_AVX512) return __builtin_cpu_supports("avx512f") != 0;
#endif
    return 0;
}

void srpo_row_statistics(const SrpoLogits* logits, float* statistics) {
    const Reader reader(*logits);
    const RowBlocks& blocks = blocks_of(logits->isa);
    for_each_row(logits->num_rows, logits->num_threads, [&](int64_t row) {
        const FlushToZero flush;
        row_statistics(*logits, reader, blocks, row, statistics);
    });
}

void srpo_row_gradient(const SrpoLogits* logits, const float* entropy, const float* log_normalizer,
                       const float* dlogprobs, const float* dentropy, void* out, int64_t out_stride,
                       int32_t out_is_bf16) {
    const Reader reader(*logits);
    const RowBlocks& blocks = blocks_of(logits->isa);
    const double temperature = logits->temperature;
    for_each_row(logits->num_rows, logits->num_threads, [&](int64_t row) {
        const FlushToZero flush;
        const double dlogprob = dlogprobs[row], dentropy_here = dentropy == nullptr ? 0.0 : dentropy[row];
        const int64_t element = out_is_bf16 ? 2 : 4;
        char* out_row = static_cast<char*>(out) + row * out_stride * element;
        if (dlogprob == 0.0 && dentropy_here == 0.0) {
            std::memset(out_row, 0, logits->num_columns * element);
            return;
        }
        const double shift = log_normalizer[row] * temperature;
        GradientRow terms;
        terms.shift = static_cast<float>(shift);
        terms.shift_rest = static_cast<float>(shift - terms.shift);
        terms.inverse_temperature = static_cast<float>(1.0 / temperature);
        terms.constant = static_cast<float>(-(dlogprob + dentropy_here * entropy[row]) / temperature);
        terms.slope = static_cast<float>(-dentropy_here / temperature);
        const double label_term = dlogprob / temperature;
        if (out_is_bf16) {
            row_gradient(*logits, reader, blocks, row, terms, label_term, reinterpret_cast<uint16_t*>(out_row));
        } else {
            row_gradient(*logits, reader, blocks, row, terms, label_term, reinterpret_cast<float*>(out_row));
        }
    });
}

void srpo_exp(const float* x, int64_t count, float* out, int32_t isa) { blocks_of(isa).exp(x, count, out); }

#include "srpo_native.h"

int64_t srpo_kept_rows(const float* token_weights, const float* advantages, int64_t num_rows,
                       const int32_t* row_offsets, int64_t num_sequences, int64_t* kept) {
    const auto is_live = [&](int64_t row) {
        return token_weights[row] != 0.0f && (advantages == nullptr || advantages[row] != 0.0f);
    };
    int64_t count = 0;
    if (row_offsets == nullptr) {
        for (int64_t row = 0; row < num_rows; ++row) {
            kept[count] = row;  // written over unless it is kept: no branch
            count += is_live(row);
        }
        return count;
    }
    for (int64_t sequence = 0; sequence < num_sequences; ++sequence) {
        const int64_t first = row_offsets[sequence], end = row_offsets[sequence + 1];
        int64_t row = first;
        while (row < end && !is_live(row)) ++row;
        if (row == end) continue;
        for (row = first; row < end; ++row) kept[count++] = row;
    }
    return count;
}

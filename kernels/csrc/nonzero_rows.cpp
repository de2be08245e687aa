#include "srpo_native.h"

int64_t srpo_nonzero_rows(const uint8_t* mask, const float* coefficients, int64_t num_tokens, int64_t* rows) {
    int64_t num_rows = 0;
    for (int64_t t = 0; t < num_tokens; ++t) {
        // always stored, counted only when kept: masks are irregular and a branch would be mispredicted
        rows[num_rows] = t;
        num_rows += static_cast<int64_t>((mask[t] != 0) & (coefficients[t] != 0.0f));
    }
    return num_rows;
}

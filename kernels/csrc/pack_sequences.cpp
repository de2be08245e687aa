#include <algorithm>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "srpo_native.h"

void srpo_pack_sequences(const int64_t* lengths, int64_t num_sequences, int64_t budget, int64_t* bins) {
    std::vector<int64_t> order(num_sequences);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });

    std::set<std::pair<int64_t, int64_t>> open_bins;  // (tokens left, bin): the first that fits is the fullest
    for (const int64_t sequence : order) {
        int64_t left = budget;
        int64_t bin = static_cast<int64_t>(open_bins.size());
        const auto best = open_bins.lower_bound({lengths[sequence], 0});
        if (best != open_bins.end()) {
            left = best->first;
            bin = best->second;
            open_bins.erase(best);
        }
        open_bins.emplace(left - lengths[sequence], bin);
        bins[sequence] = bin;
    }
}

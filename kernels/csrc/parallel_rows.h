// One job over rows on as many threads as the caller allows.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

// Calls job(row) for every row. Threads take rows by turns, for rows cost unequal time; what a row gets does not depend
// on the thread. A thread is started for every call: tens of microseconds, against milliseconds of work, and nothing
// that would spin or outlive a fork.
template <typename Job>
void for_each_row(int64_t num_rows, int32_t num_threads, const Job& job) {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t row = next++; row < num_rows; row = next++) job(row);
    };
    std::vector<std::thread> others;
    const int64_t wanted = num_threads < num_rows ? num_threads : num_rows;
    for (int64_t i = 1; i < wanted; ++i) others.emplace_back(work);
    work();
    for (auto& thread : others) thread.join();
}

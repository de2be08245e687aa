#include "sync_copy.h"

#include "parallel_rows.h"
#include "srpo_native.h"

void srpo_sync_copy_on_cpu(const SrpoRowCopy* copies, int32_t num_copies, int64_t num_tiles, int32_t num_threads) {
    for_each_row(num_tiles, num_threads, [&](int64_t tile) { copy_tile(copies, num_copies, tile, 0, 1); });
}

// The table of a weight sync, and how one of its tiles is copied: the same code on CPUs, where it is tested, and GPUs.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define SRPO_BOTH __host__ __device__
#else
#define SRPO_BOTH
#endif

enum SrpoRowOrder : int32_t { SRPO_ROWS_PLAIN = 0, SRPO_ROWS_STACK = 1, SRPO_ROWS_GROUP = 2 };

// One matrix. Strides are of rows, in elements; columns lie side by side. A copy is cut into tiles of tile_rows x
// tile_columns, counted through the whole table from first_tile on.
struct SrpoRowCopy {
    const void* source;
    void* target;
    int64_t rows, columns;
    int64_t source_stride, target_stride;
    int64_t first_tile;
    int32_t tile_rows, tile_columns;
    int32_t source_is_bf16, target_is_bf16;
    int32_t is_vectorized;  // addresses, strides and columns are multiples of 8 elements, 16 bytes at least
    int32_t order;          // SrpoRowOrder
    int32_t head_rows, queries_per_group, groups;
    int32_t unused;  // the size is a multiple of 8
};

namespace {

constexpr int VECTOR = 8;  // elements that a thread takes at once: 16 bytes of bf16

struct Bf16 {
    uint16_t bits;
};

template <typename T>
struct alignas(16) Vector {
    T v[VECTOR];
};

SRPO_BOTH inline void assign(float& to, float x) { to = x; }
SRPO_BOTH inline void assign(Bf16& to, Bf16 x) { to = x; }
SRPO_BOTH inline void assign(float& to, Bf16 x) {
    const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    memcpy(&to, &bits, sizeof to);
}
SRPO_BOTH inline void assign(Bf16& to, float x) {  // to nearest even
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to.bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
}

// The source's row of a target's row. A group is some queries, then a key and a value, of head_rows rows each.
SRPO_BOTH inline int64_t source_row(const SrpoRowCopy& copy, int64_t row) {
    if (copy.order == SRPO_ROWS_PLAIN) return row;
    const int64_t head = row / copy.head_rows, within = row % copy.head_rows;
    const int64_t queries = copy.queries_per_group, groups = copy.groups, all_queries = groups * queries;
    int64_t from;
    if (copy.order == SRPO_ROWS_GROUP) {
        const int64_t group = head / (queries + 2), place = head % (queries + 2);
        from = place < queries ? group * queries + place : all_queries + (place - queries) * groups + group;
    } else if (head < all_queries) {
        from = head / queries * (queries + 2) + head % queries;
    } else {
        const int64_t rest = head - all_queries;
        from = rest % groups * (queries + 2) + queries + rest / groups;
    }
    return from * copy.head_rows + within;
}

SRPO_BOTH inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The part of a tile that one of `workers` does.
template <typename Source, typename Target>
SRPO_BOTH inline void copy_tile_of(const SrpoRowCopy& copy, int64_t tile, int worker, int workers) {
    const int64_t tiles_of_row = (copy.columns + copy.tile_columns - 1) / copy.tile_columns;
    const int64_t first_row = tile / tiles_of_row * copy.tile_rows;
    const int64_t first_column = tile % tiles_of_row * copy.tile_columns;
    const int rows = static_cast<int>(smaller(copy.tile_rows, copy.rows - first_row));
    const int columns = static_cast<int>(smaller(copy.tile_columns, copy.columns - first_column));
    const int width = copy.is_vectorized ? VECTOR : 1;
    const int steps_of_row = columns / width;
    for (int step = worker; step < rows * steps_of_row; step += workers) {
        const int64_t row = first_row + step / steps_of_row;
        const int64_t column = first_column + step % steps_of_row * width;
        const Source* from =
            static_cast<const Source*>(copy.source) + source_row(copy, row) * copy.source_stride + column;
        Target* to = static_cast<Target*>(copy.target) + row * copy.target_stride + column;
        if (copy.is_vectorized) {
            const Vector<Source> read = *reinterpret_cast<const Vector<Source>*>(from);
            Vector<Target> written;
            for (int i = 0; i < VECTOR; ++i) assign(written.v[i], read.v[i]);
            *reinterpret_cast<Vector<Target>*>(to) = written;
        } else {
            assign(*to, *from);
        }
    }
}

// The last copy of the table that begins at this tile or before.
SRPO_BOTH inline int copy_of_tile(const SrpoRowCopy* copies, int num_copies, int64_t tile) {
    int low = 0, high = num_copies;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (copies[middle].first_tile <= tile ? low : high) = middle;
    }
    return low;
}

SRPO_BOTH inline void copy_tile(const SrpoRowCopy* copies, int num_copies, int64_t tile, int worker, int workers) {
    const SrpoRowCopy copy = copies[copy_of_tile(copies, num_copies, tile)];
    const int64_t own = tile - copy.first_tile;
    if (copy.source_is_bf16 && copy.target_is_bf16) {
        copy_tile_of<Bf16, Bf16>(copy, own, worker, workers);
    } else if (copy.source_is_bf16) {
        copy_tile_of<Bf16, float>(copy, own, worker, workers);
    } else if (copy.target_is_bf16) {
        copy_tile_of<float, Bf16>(copy, own, worker, workers);
    } else {
        copy_tile_of<float, float>(copy, own, worker, workers);
    }
}

}  // namespace

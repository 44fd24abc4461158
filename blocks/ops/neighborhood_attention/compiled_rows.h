// The arguments of a call, and the rows of keys, values and queries that a thread keeps at hand.
#pragma once
#include "../lanes.h"

namespace {

constexpr int LARGEST_WINDOW = 31;  // as in compiled.py

struct Map {  // [batch, height, width, heads, channels] with contiguous channels
    float *data;
    int64_t batch, row, column, head;
    float *at(int64_t b, int64_t h, int64_t y, int64_t x) const {
        return data + b * batch + h * head + y * row + x * column;
    }
};

}  // namespace

struct Call {  // as in compiled.py
    int64_t batch, height, width, heads, dim, kernel_size, dilation, threads;
    int64_t positions, pitch;  // padded positions of a row; floats from channel to channel of a transposed row
    float scale;
    const int32_t *column;        // [positions] the column of each position, or -1 for padding
    const int32_t *window_start;  // [positions] the position where the window of each position begins
    const int32_t *load_start;    // [positions / 16] the position that a vector's keys are loaded from
    const int32_t *permutation;   // [positions / 16, 16] the lane of that load which holds each lane's key
    const int32_t *in_order;      // [positions / 16] whether the permutation is the identity
    const int32_t *first_query;   // [positions] the first query of a row that attends to a position
    const int32_t *last_query;    // [positions] the last query of a row that attends to a position
    Map q, k, v, y, grad, dq, dk, dv;
    const float *bias;  // [heads, positions / 16, 2K-1, K, 16] or null: added to each logit
    float *dbias;       // [threads, heads, positions / 16, 2K-1, K, 16] or null, initially zero
    float *scratch;     // [threads, scratch_size], initially zero
    int64_t scratch_size;
};

namespace {

struct RowRange {                 // rows of one dilation group of one head of one image
    int64_t b, h, group, length;  // image, head, dilation group, and the rows of that group
    int64_t first, last;          // first row, and one past the last row, of the range

    RowRange(const Call &call, int64_t row, int64_t end) {  // `row` counts through images, heads and groups
        b = row / (call.heads * call.height), h = row / call.height % call.heads;
        int64_t left = row % call.height;
        for (group = 0;; group++) {
            length = (call.height - group + call.dilation - 1) / call.dilation;
            if (left < length) break;
            left -= length;
        }
        first = left, last = length < left + end - row ? length : left + end - row;
    }
    int64_t map_row(const Call &call, int64_t group_row) const { return group + call.dilation * group_row; }
    int64_t window_start(const Call &call, int64_t group_row) const {  // first row of the window of a row of queries
        int64_t start = group_row - call.kernel_size / 2, largest = length - call.kernel_size;
        return start < 0 ? 0 : start > largest ? largest : start;
    }
    int64_t first_query(const Call &call, int64_t group_row) const {
        return group_row < call.kernel_size ? 0 : group_row - call.kernel_size / 2;
    }
    int64_t last_query(const Call &call, int64_t group_row) const {
        return group_row >= length - call.kernel_size ? length - 1 : group_row + call.kernel_size / 2;
    }
};

// Offset of a vector of queries into a bias table of [heads, positions / 16, 2K-1, K, 16].
INLINE int64_t table_of(const Call &call, int64_t vector, const RowRange &range, int64_t group_row) {
    int64_t K = call.kernel_size, block = (range.h * (call.positions / LANES) + vector) * (2 * K - 1);
    return (block + range.window_start(call, group_row) - group_row + K - 1) * K * LANES;
}

// Copies a row of pixels in the order of positions; padding is not written.
void pack(const Call &call, const RowRange &range, int64_t group_row, const Map &map, float *RESTRICT to) {
    const float *row = map.at(range.b, range.h, range.map_row(call, group_row), 0);
    for (int64_t position = 0; position < call.positions; position++) {
        if (call.column[position] < 0) continue;
        const float *pixel = row + call.column[position] * map.column;
        int64_t d = 0;
        for (; d + LANES <= call.dim; d += LANES) store(to + position * call.dim + d, load(pixel + d));
        for (; d < call.dim; d++) to[position * call.dim + d] = pixel[d];
    }
}

struct Ring {  // ring buffer of the rows of keys or values that two rows of queries attend to
    float *rows, *transposed;

    Ring(const Call &call, float *&scratch) {
        int64_t length = call.kernel_size + 1;
        rows = scratch, scratch += length * call.positions * call.dim;
        transposed = scratch, scratch += length * call.pitch * call.dim;
    }
    // Pointers to the K + 1 rows from `start` on.
    void set_pointers(const Call &call, int64_t start, const float **packed_rows, const float **transposed_rows) const {
        for (int64_t a = 0; a <= call.kernel_size; a++) {
            int64_t ring_row = (start + a) % (call.kernel_size + 1);
            packed_rows[a] = rows + ring_row * call.positions * call.dim;
            transposed_rows[a] = transposed + ring_row * call.pitch * call.dim;
        }
    }
    // Loads the rows from `next`, the first that is missing, to the end of the window that begins at `start`.
    void load_rows(const Call &call, const RowRange &range, int64_t start, const Map &map, int64_t next,
                   bool transpose_too) {
        for (int64_t group_row = next; group_row < start + call.kernel_size; group_row++) {
            int64_t ring_row = group_row % (call.kernel_size + 1);
            float *row = rows + ring_row * call.positions * call.dim;
            pack(call, range, group_row, map, row);
            if (!transpose_too) continue;
            for (int64_t position = 0; position < call.positions; position += LANES)
                transpose<false>(row + position * call.dim, call.dim, 1.0f,
                                 transposed + ring_row * call.dim * call.pitch + position, call.pitch);
        }
    }
};

}  // namespace

// The forward pass in bfloat16 for processors with AVX512-BF16: one instruction adds two products to each float32 lane.
//
// A 32-bit word holds two bfloat16 numbers. Rows of pixels are packed and transposed as in float32, word for word, so
// that a word of queries or keys holds two channels of a pixel. A word of values holds a channel of two neighbouring
// keys: first the words of the even channels of 32, then those of the odd ones. The sums of both, rounded and joined,
// are words of the output. Logits, softmax and sums are in float32; weights are rounded to bfloat16.
#pragma once
#include "compiled_windows.h"

#ifdef __AVX512BF16__

namespace {

// Offset of a pair of keys in a window. An odd last key is the second of a pair whose first key has a weight of zero.
INLINE int64_t pair_key(int64_t K, int64_t pair) { return 2 * pair + 1 < K ? 2 * pair : K - 2; }

struct ValueRing {  // ring buffer of rows of pairs of values
    float *packed, *rows;
    int64_t size;  // of a row

    ValueRing(const Call &call, float *&scratch) : size(2 * call.positions * call.dim) {
        packed = scratch, scratch += (call.positions + 1) * call.dim;
        rows = scratch, scratch += (call.kernel_size + 1) * size;
    }
    const float *row(const Call &call, int64_t group_row) const {
        return rows + group_row % (call.kernel_size + 1) * size;
    }
    void load_rows(const Call &call, const RowRange &range, int64_t start, int64_t next) {
        for (int64_t group_row = next; group_row < start + call.kernel_size; group_row++) {
            float *to = rows + group_row % (call.kernel_size + 1) * size;
            pack(call, range, group_row, call.v, packed);
            for (int64_t word = 0; word < call.positions * call.dim; word += LANES, to += 2 * LANES) {
                Words a = (Words)load(packed + word), b = (Words)load(packed + word + call.dim);
                store(to, (Lanes)((a & 0xFFFF) | b << 16));
                store(to + LANES, (Lanes)(a >> 16 | (b & 0xFFFF0000u)));
            }
        }
    }
};

// Weighted sums over the windows of 4 neighbouring queries, for 32 channels. The windows have SIZE x SIZE keys, or any
// number for 0. If they move by one key from query to query (SLIDING), queries share the loads of values.
template <int SIZE, bool SLIDING>
INLINE void sum_pairs(const Call &call, const float *const *rows, int64_t channel, const int32_t *first,
                      const float *weights, float *const *to) {
    const int64_t K = SIZE ? SIZE : call.kernel_size, pairs = (K + 1) / 2, pixel = 2 * call.dim;
    Lanes even[4] = {}, odd[4] = {};
    int64_t query[4];
    for (int i = 0; i < 4; i++) query[i] = (SLIDING ? first[0] + i : first[i]) * pixel;
    for (int64_t a = 0; a < K; a++, weights += pairs * LANES) {
        const float *values = rows[a] + 2 * channel;
#pragma GCC unroll 4
        for (int64_t pair = 0; pair < pairs; pair++) {
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const float *value = values + query[i] + pair_key(K, pair) * pixel;
                Lanes weight = (Lanes)(*(const int32_t *)(weights + pair * LANES + i) - Ints{});
                Pairs::add(even[i], weight, load(value));
                Pairs::add(odd[i], weight, load(value + LANES));
            }
        }
    }
    for (int i = 0; i < 4; i++)
        if (to[i]) store(to[i] + channel, join(even[i], odd[i]));
}

template <int SIZE>
void sum_pairs(const Call &call, int64_t vector, const RowRange &range, int64_t group_row, const float *const *rows,
               const float *weights) {
    for (int64_t position = vector * LANES; position < (vector + 1) * LANES; position += 4) {
        float *to[4];
        for (int i = 0; i < 4; i++) {
            int32_t column = call.column[position + i];
            to[i] = column < 0 ? nullptr : call.y.at(range.b, range.h, range.map_row(call, group_row), column);
        }
        if (!to[0]) continue;  // padding comes last
        const int32_t *first = call.window_start + position;
        bool sliding = to[3] && first[1] == first[0] + 1 && first[2] == first[0] + 2 && first[3] == first[0] + 3;
        for (int64_t channel = 0; channel < call.dim; channel += LANES) {
            if (sliding) sum_pairs<SIZE, true>(call, rows, channel, first, weights + position % LANES, to);
            else sum_pairs<SIZE, false>(call, rows, channel, first, weights + position % LANES, to);
        }
    }
}

// As `forward`; the channels of `call` are words, and its window has at least 2 x 2 keys.
void forward_bfloat16(const Call &call, int64_t begin, int64_t end, float *scratch) {
    int64_t K = call.kernel_size, size = call.positions * call.dim, pairs = (K + 1) / 2;
    Ring keys(call, scratch);
    ValueRing values(call, scratch);
    float *queries = scratch, *query = queries + 2 * size, *logits = query + 2 * call.dim * LANES;
    float *weights = logits + 2 * K * K * LANES, *logit[2] = {logits, logits + K * K * LANES};
    const float *key_rows[LARGEST_WINDOW + 1], *keys_transposed[LARGEST_WINDOW + 1], *value_rows[LARGEST_WINDOW];
    while (begin < end) {
        RowRange range(call, begin, end);
        int64_t next = range.window_start(call, range.first);
        for (int64_t group_row = range.first; group_row < range.last; group_row += 2) {
            int64_t rows = range.last - group_row > 1 ? 2 : 1;
            int64_t start[2] = {range.window_start(call, group_row), range.window_start(call, group_row + rows - 1)};
            keys.load_rows(call, range, start[rows - 1], call.k, next, true);
            values.load_rows(call, range, start[rows - 1], next);
            next = start[rows - 1] + K;
            keys.set_pointers(call, start[0], key_rows, keys_transposed);
            for (int64_t i = 0; i < rows; i++) pack(call, range, group_row + i, call.q, queries + i * size);
            for (int64_t vector = 0; vector < call.positions / LANES; vector++) {
                for (int64_t i = 0; i < rows; i++)
                    transpose<false>(queries + i * size + vector * LANES * call.dim, call.dim, 1.0f,
                                     query + i * call.dim * LANES, LANES);
                products<Pairs>(call, vector, start, rows, query, keys_transposed, logit);
                for (int64_t i = 0; i < rows; i++) {
                    softmax(call, call.bias ? call.bias + table_of(call, vector, range, group_row + i) : nullptr,
                            call.scale, logit[i]);
                    for (int64_t a = 0; a < K; a++) {
                        value_rows[a] = values.row(call, start[i] + a);
                        for (int64_t pair = 0; pair < pairs; pair++) {
                            const float *from = logit[i] + (a * K + pair_key(K, pair)) * LANES;
                            Lanes low = pair_key(K, pair) == 2 * pair ? load(from) : Lanes{};
                            store(weights + (a * pairs + pair) * LANES, join(low, load(from + LANES)));
                        }
                    }
                    if (K == 7) sum_pairs<7>(call, vector, range, group_row + i, value_rows, weights);
                    else sum_pairs<0>(call, vector, range, group_row + i, value_rows, weights);
                }
            }
        }
        begin += range.last - range.first;
    }
}

}  // namespace

#endif

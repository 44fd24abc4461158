// Products with the keys of a window, softmax, and weighted sums over a window or over the queries of a key.
#pragma once
#include "compiled_rows.h"

namespace {

// Products of 16 queries of one row or two (Q), [dim, 16] each, with N consecutive keys from `keys` on. A lane holds
// what Numbers names: `Floats` or `Pairs`.
template <typename Numbers, int N, int Q, bool IN_ORDER>
INLINE void multiply(int64_t dim, int64_t pitch, const float *query, const float *keys, Ints lane, float *const *out) {
    Lanes sums[Q][N] = {};
    for (int64_t d = 0; d < dim; d++) {
        Lanes q[Q];
        for (int i = 0; i < Q; i++) q[i] = load(query + (i * dim + d) * LANES);
        for (int j = 0; j < N; j++) {
            Lanes k = load(keys + d * pitch + j);
            if (!IN_ORDER) k = permute(k, lane);
            for (int i = 0; i < Q; i++) Numbers::add(sums[i][j], q[i], k);
        }
    }
    for (int i = 0; i < Q; i++)
        for (int j = 0; j < N; j++) store(out[i] + j * LANES, sums[i][j]);
}

template <typename Numbers, int Q, bool IN_ORDER>
INLINE void multiply(const Call &call, const float *query, const float *keys, Ints lane, float *const *out) {
    for (int64_t j = 0; j < call.kernel_size;) {
        float *to[Q];
        for (int i = 0; i < Q; i++) to[i] = out[i] + j * LANES;
        int64_t left = call.kernel_size - j;
#define MULTIPLY(N) multiply<Numbers, N, Q, IN_ORDER>(call.dim, call.pitch, query, keys + j, lane, to), j += N
        if (left >= 7) MULTIPLY(7);
        else if (left >= 5) MULTIPLY(5);
        else if (left >= 3) MULTIPLY(3);
        else if (left == 2) MULTIPLY(2);
        else MULTIPLY(1);
#undef MULTIPLY
    }
}

template <typename Numbers, int Q>
INLINE void multiply(const Call &call, int64_t vector, const float *query, const float *keys, float *const *out) {
    keys += call.load_start[vector];
    if (call.in_order[vector]) multiply<Numbers, Q, true>(call, query, keys, Ints{}, out);
    else multiply<Numbers, Q, false>(call, query, keys, *(const Ints *)(call.permutation + vector * LANES), out);
}

// Products of a vector of queries, of one row or two (`rows`), with all keys of their windows: [K K, 16] each.
template <typename Numbers>
void products(const Call &call, int64_t vector, const int64_t *start, int64_t rows, const float *query,
              const float *const *keys_of, float *const *out) {
    int64_t K = call.kernel_size, step = K * LANES, last = start[rows - 1];
    for (int64_t key = start[0]; key < last + K; key++) {  // adjacent rows of queries share most rows of keys
        const float *keys = keys_of[key - start[0]];
        int64_t a = key - start[0], b = key - last;
        if (rows == 2 && a < K && b >= 0) {
            float *to[2] = {out[0] + a * step, out[1] + b * step};
            multiply<Numbers, 2>(call, vector, query, keys, to);
        } else if (a < K) {
            float *to[1] = {out[0] + a * step};
            multiply<Numbers, 1>(call, vector, query, keys, to);
        } else {
            float *to[1] = {out[1] + b * step};
            multiply<Numbers, 1>(call, vector, query + call.dim * LANES, keys, to);
        }
    }
}

// Softmax over the windows of a vector's queries, of the logits times `scale`, in place.
void softmax(const Call &call, const float *table, float scale, float *logits) {
    int64_t count = call.kernel_size * call.kernel_size;
    for (int64_t i = 0; (table || scale != 1.0f) && i < count * LANES; i += LANES)
        store(logits + i, load(logits + i) * scale + (table ? load(table + i) : Lanes{}));
    Lanes largest = load(logits), sum = {};
    for (int64_t i = 1; i < count; i++) {
        Lanes x = load(logits + i * LANES);
        largest = x > largest ? x : largest;
    }
    for (int64_t i = 0; i < count; i++) {
        Lanes e = exponential(load(logits + i * LANES) - largest);
        sum += e;
        store(logits + i * LANES, e);
    }
    Lanes part = 1.0f / sum;
    for (int64_t i = 0; i < count; i++) store(logits + i * LANES, load(logits + i * LANES) * part);
}

// Weighted sums over the windows of 4 neighbouring queries, for N M channels. If the windows move by one key from query
// to query (SLIDING), each key is loaded once for all four.
template <int N, int M, bool SLIDING>
INLINE void sum_window(const Call &call, const float *const *rows, int64_t channel, const int32_t *first,
                       const float *weights, float scale, float *const *to) {
    typedef typename Channels<N>::type V;
    int64_t K = call.kernel_size;
    V sums[4][M] = {};
    for (int64_t a = 0; a < K; a++, weights += K * LANES) {
        const float *keys = rows[a] + channel;
        auto add = [&](int64_t key, int i, int64_t j) __attribute__((always_inline)) {
            for (int m = 0; m < M; m++)
                sums[i][m] += weights[j * LANES + i] * *(const V *)(keys + key * call.dim + m * N);
        };
        if (SLIDING) {
            int64_t key = first[0];
            for (int i = 0; i < 1; i++) add(key, i, 0 - i);
            for (int i = 0; i < 2; i++) add(key + 1, i, 1 - i);
            for (int i = 0; i < 3; i++) add(key + 2, i, 2 - i);
            for (int64_t j = 3; j < K; j++)
                for (int i = 0; i < 4; i++) add(key + j, i, j - i);
            for (int i = 1; i < 4; i++) add(key + K, i, K - i);
            for (int i = 2; i < 4; i++) add(key + K + 1, i, K + 1 - i);
            for (int i = 3; i < 4; i++) add(key + K + 2, i, K + 2 - i);
        } else {
            for (int64_t j = 0; j < K; j++)
                for (int i = 0; i < 4; i++) add(first[i] + j, i, j);
        }
    }
    for (int i = 0; i < 4; i++)
        if (to[i])
            for (int m = 0; m < M; m++) *(V *)(to[i] + m * N) = sums[i][m] * scale;
}

template <int N, int M>
INLINE void sum_window(const Call &call, int64_t &channel, const float *const *rows, int64_t position,
                       const float *weights, float scale, float *const *to) {
    const int32_t *first = call.window_start + position;
    bool sliding = call.kernel_size > 1 && to[3] && first[1] == first[0] + 1 && first[2] == first[0] + 2 &&
                   first[3] == first[0] + 3;
    for (; channel + M * N <= call.dim; channel += M * N) {
        float *channels_to[4];
        for (int i = 0; i < 4; i++) channels_to[i] = to[i] ? to[i] + channel : nullptr;
        if (sliding) sum_window<N, M, true>(call, rows, channel, first, weights + position % LANES, scale, channels_to);
        else sum_window<N, M, false>(call, rows, channel, first, weights + position % LANES, scale, channels_to);
    }
}

// Weighted sums over the windows of a vector's queries; `rows` are the rows of the window.
void sum_windows(const Call &call, int64_t vector, const RowRange &range, int64_t group_row, const float *const *rows,
                 const float *weights, float scale, const Map &into) {
    for (int64_t position = vector * LANES; position < (vector + 1) * LANES; position += 4) {
        float *to[4];
        for (int i = 0; i < 4; i++) {
            int32_t column = call.column[position + i];
            to[i] = column < 0 ? nullptr : into.at(range.b, range.h, range.map_row(call, group_row), column);
        }
        if (!to[0]) continue;  // padding comes last
        int64_t channel = 0;
        sum_window<16, 4>(call, channel, rows, position, weights, scale, to);
        sum_window<16, 2>(call, channel, rows, position, weights, scale, to);
        sum_window<16, 1>(call, channel, rows, position, weights, scale, to);
        sum_window<4, 1>(call, channel, rows, position, weights, scale, to);
        sum_window<1, 1>(call, channel, rows, position, weights, scale, to);
    }
}

struct QueryRow {  // a row of queries that attends to a row of keys, with its gradients and its weights for that row
    const float *query, *grad, *weight, *slope;
};

// Gradients of G neighbouring keys and values, N M channels of them: weighted sums of queries (dk) and of gradients
// (dv). If the queries move by one from key to key (SLIDING), each is loaded once for all.
template <int N, int M, int G, bool SLIDING>
INLINE void sum_queries(const Call &call, int64_t channel, int64_t position, const QueryRow *query_rows, int64_t rows,
                        float *const *dk, float *const *dv) {
    typedef typename Channels<N>::type V;
    int64_t K = call.kernel_size;
    V of_key[G][M] = {}, of_value[G][M] = {};
    for (int64_t row = 0; row < rows; row++) {
        const QueryRow &queries = query_rows[row];
        // j: index of key 0 in the query's window
        auto add = [&](int64_t query, int64_t j, int low, int high) __attribute__((always_inline)) {
            int64_t pixel = query * call.dim + channel;
            int64_t offset = query / LANES * (K * K * LANES) + query % LANES + j * LANES;
            for (int i = low; i < high; i++)
                for (int m = 0; m < M; m++) {
                    of_key[i][m] += queries.slope[offset + i * LANES] * *(const V *)(queries.query + pixel + m * N);
                    of_value[i][m] += queries.weight[offset + i * LANES] * *(const V *)(queries.grad + pixel + m * N);
                }
        };
        int64_t query = call.first_query[position];
        if (SLIDING) {
            add(query, K - 1, 0, 1), add(query + 1, K - 2, 0, 2), add(query + 2, K - 3, 0, 3);
            for (int64_t t = 3; t < K; t++) add(query + t, K - 1 - t, 0, 4);
            add(query + K, -1, 1, 4), add(query + K + 1, -2, 2, 4), add(query + K + 2, -3, 3, 4);
        } else {
            for (; query <= call.last_query[position]; query++) add(query, position - call.window_start[query], 0, G);
        }
    }
    for (int i = 0; i < G; i++)
        for (int m = 0; m < M; m++) {
            *(V *)(dk[i] + channel + m * N) = of_key[i][m] * call.scale;
            *(V *)(dv[i] + channel + m * N) = of_value[i][m];
        }
}

template <int G, bool SLIDING>
INLINE void sum_queries(const Call &call, int64_t position, const QueryRow *query_rows, int64_t rows, float *const *dk,
                        float *const *dv) {
    int64_t channel = 0;
    for (; channel + 32 <= call.dim; channel += 32)
        sum_queries<16, 2, G, SLIDING>(call, channel, position, query_rows, rows, dk, dv);
    for (; channel + 16 <= call.dim; channel += 16)
        sum_queries<16, 1, G, SLIDING>(call, channel, position, query_rows, rows, dk, dv);
    for (; channel + 4 <= call.dim; channel += 4)
        sum_queries<4, 1, G, SLIDING>(call, channel, position, query_rows, rows, dk, dv);
    for (; channel < call.dim; channel++)
        sum_queries<1, 1, G, SLIDING>(call, channel, position, query_rows, rows, dk, dv);
}

// The gradients of a row of keys and values; the arrays are ring buffers of 2K rows of queries.
void sum_queries_of_row(const Call &call, const RowRange &range, int64_t group_row, const float *queries,
                        const float *grads, const float *weights, const float *slopes) {
    int64_t K = call.kernel_size, row = range.map_row(call, group_row);
    int64_t first = range.first_query(call, group_row), rows = range.last_query(call, group_row) - first + 1;
    QueryRow query_rows[2 * LARGEST_WINDOW];
    for (int64_t i = 0; i < rows; i++) {
        int64_t ring_row = (first + i) % (2 * K), pixels = ring_row * call.positions * call.dim;
        int64_t window_row =
            ring_row * call.positions * K * K + (group_row - range.window_start(call, first + i)) * K * LANES;
        query_rows[i] = {queries + pixels, grads + pixels, weights + window_row, slopes + window_row};
    }
    float *to_key = call.dk.at(range.b, range.h, row, 0), *to_value = call.dv.at(range.b, range.h, row, 0);
    for (int64_t position = 0; position < call.positions; position += 4) {
        float *dk[4], *dv[4];
        bool sliding = K > 1;
        for (int i = 0; i < 4; i++) {
            int64_t column = call.column[position + i];
            sliding &= column >= 0 && call.first_query[position + i] == call.first_query[position] + i &&
                       call.last_query[position + i] == call.first_query[position] + i + K - 1;
            dk[i] = to_key + column * call.dk.column, dv[i] = to_value + column * call.dv.column;
        }
        if (sliding) {
            sum_queries<4, true>(call, position, query_rows, rows, dk, dv);
            continue;
        }
        for (int i = 0; i < 4; i++)
            if (call.column[position + i] >= 0)
                sum_queries<1, false>(call, position + i, query_rows, rows, dk + i, dv + i);
    }
}

}  // namespace

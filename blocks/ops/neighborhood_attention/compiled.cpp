// Neighborhood attention on CPUs: computes only the products that lie inside a window.
//
// NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT,
// https://arxiv.org/abs/2209.15001.
//
// The 16 lanes of a vector hold one of two things:
// - Products: 16 queries of a row, neighbours in a dilation group. Their j-th keys are neighbours too, so one load from
// a
//   transposed row of keys reads all 16. Windows shifted inwards at an end of the group only permute the lanes of that
//   load.
// - Sums: 16 channels of a pixel, as in memory, for 4 queries at a time. The gradients of keys and values are summed
// the
//   same way, per key over the queries that attend to it, so that no two threads write to one address.
//
// A thread computes a range of rows from top to bottom. Ring buffers, one or two windows long, hold the rows of keys
// and values, packed and transposed, and in the backward pass the weights of rows of queries; they fit into the cache.
//
// The columns of a row are laid out group after group in padded positions, so that the keys of a window are contiguous.
// Each group begins at a multiple of 16 positions or, if it is short, at a multiple of 8 or 4.
//
// No names of the standard library are used, so that it compiles in a few seconds.
#include "compiled_bfloat16.h"
#include "compiled_windows.h"

namespace {

void forward(const Call &call, int64_t begin, int64_t end, float *scratch) {
    int64_t K = call.kernel_size, size = call.positions * call.dim;
    Ring keys(call, scratch), values(call, scratch);
    float *queries = scratch, *query = queries + 2 * size, *weights = query + 2 * call.dim * LANES;
    float *weight[2] = {weights, weights + K * K * LANES};
    const float *key_rows[LARGEST_WINDOW + 1], *keys_transposed[LARGEST_WINDOW + 1];
    const float *value_rows[LARGEST_WINDOW + 1], *values_transposed[LARGEST_WINDOW + 1];
    while (begin < end) {
        RowRange range(call, begin, end);
        int64_t next = range.window_start(call, range.first);
        for (int64_t group_row = range.first; group_row < range.last; group_row += 2) {
            int64_t rows = range.last - group_row > 1 ? 2 : 1;
            int64_t start[2] = {range.window_start(call, group_row), range.window_start(call, group_row + rows - 1)};
            keys.load_rows(call, range, start[rows - 1], call.k, next, true);
            values.load_rows(call, range, start[rows - 1], call.v, next, false);
            next = start[rows - 1] + K;
            keys.set_pointers(call, start[0], key_rows, keys_transposed);
            values.set_pointers(call, start[0], value_rows, values_transposed);
            for (int64_t i = 0; i < rows; i++) pack(call, range, group_row + i, call.q, queries + i * size);
            for (int64_t vector = 0; vector < call.positions / LANES; vector++) {
                for (int64_t i = 0; i < rows; i++)
                    transpose<true>(queries + i * size + vector * LANES * call.dim, call.dim, call.scale,
                              query + i * call.dim * LANES, LANES);
                products<Floats>(call, vector, start, rows, query, keys_transposed, weight);
                for (int64_t i = 0; i < rows; i++) {
                    softmax(call, call.bias ? call.bias + table_of(call, vector, range, group_row + i) : nullptr, 1.0f,
                            weight[i]);
                    sum_windows(call, vector, range, group_row + i, value_rows + start[i] - start[0], weight[i], 1.0f,
                                call.y);
                }
            }
        }
        begin += range.last - range.first;
    }
}

void backward(const Call &call, int64_t begin, int64_t end, float *scratch, float *dbias) {
    int64_t K = call.kernel_size, count = K * K * LANES;
    int64_t size = call.positions * call.dim, vectors = call.positions / LANES;
    Ring keys(call, scratch), values(call, scratch);
    float *queries = scratch, *grads = queries + 2 * K * size, *weights = grads + 2 * K * size;
    float *slopes = weights + 2 * K * vectors * count, *query = slopes + 2 * K * vectors * count;
    float *grad = query + 2 * call.dim * LANES;
    const float *key_rows[LARGEST_WINDOW + 1], *keys_transposed[LARGEST_WINDOW + 1];
    const float *value_rows[LARGEST_WINDOW + 1], *values_transposed[LARGEST_WINDOW + 1];
    while (begin < end) {
        RowRange range(call, begin, end);
        int64_t done = range.first;
        int64_t group_row = range.first_query(call, range.first), last = range.last_query(call, range.last - 1);
        int64_t next = range.window_start(call, group_row);
        // all rows of queries that attend to the range's keys, also those outside the range
        for (; group_row <= last; group_row += 2) {
            int64_t rows = last - group_row > 0 ? 2 : 1;
            int64_t start[2] = {range.window_start(call, group_row), range.window_start(call, group_row + rows - 1)};
            keys.load_rows(call, range, start[rows - 1], call.k, next, true);
            values.load_rows(call, range, start[rows - 1], call.v, next, true);
            next = start[rows - 1] + K;
            keys.set_pointers(call, start[0], key_rows, keys_transposed);
            values.set_pointers(call, start[0], value_rows, values_transposed);
            for (int64_t i = 0; i < rows; i++) {
                pack(call, range, group_row + i, call.q, queries + (group_row + i) % (2 * K) * size);
                pack(call, range, group_row + i, call.grad, grads + (group_row + i) % (2 * K) * size);
            }
            for (int64_t vector = 0; vector < vectors; vector++) {
                float *weight[2], *slope[2];
                for (int64_t i = 0; i < rows; i++) {
                    int64_t ring_row = (group_row + i) % (2 * K), pixels = ring_row * size + vector * LANES * call.dim;
                    weight[i] = weights + (ring_row * vectors + vector) * count;
                    slope[i] = slopes + (ring_row * vectors + vector) * count;
                    transpose<true>(queries + pixels, call.dim, call.scale, query + i * call.dim * LANES, LANES);
                    transpose<true>(grads + pixels, call.dim, 1.0f, grad + i * call.dim * LANES, LANES);
                }
                products<Floats>(call, vector, start, rows, query, keys_transposed, weight);
                products<Floats>(call, vector, start, rows, grad, values_transposed, slope);
                for (int64_t i = 0; i < rows; i++) {
                    softmax(call, call.bias ? call.bias + table_of(call, vector, range, group_row + i) : nullptr, 1.0f,
                            weight[i]);
                    Lanes mean = {};
                    for (int64_t n = 0; n < count; n += LANES) mean += load(weight[i] + n) * load(slope[i] + n);
                    for (int64_t n = 0; n < count; n += LANES)
                        store(slope[i] + n, (load(slope[i] + n) - mean) * load(weight[i] + n));
                    if (group_row + i < range.first || group_row + i >= range.last) continue;
                    sum_windows(call, vector, range, group_row + i, key_rows + start[i] - start[0], slope[i],
                                call.scale, call.dq);
                    if (!dbias) continue;
                    float *sums = dbias + table_of(call, vector, range, group_row + i);
                    for (int64_t n = 0; n < count; n += LANES) store(sums + n, load(sums + n) + load(slope[i] + n));
                }
            }
            for (; done < range.last && range.last_query(call, done) < group_row + rows; done++)
                sum_queries_of_row(call, range, done, queries, grads, weights, slopes);
        }
        begin += range.last - range.first;
    }
}

}  // namespace

// The rows of each thread are fixed beforehand, so that the order of sums does not depend on timing.

extern "C" void neighborhood_attention(const Call *call) {
    int64_t rows = call->batch * call->heads * call->height, threads = call->threads;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t i = 0; i < threads; i++)
        forward(*call, rows * i / threads, rows * (i + 1) / threads, call->scratch + i * call->scratch_size);
}

#ifdef __AVX512BF16__
extern "C" void neighborhood_attention_bfloat16(const Call *call) {
    int64_t rows = call->batch * call->heads * call->height, threads = call->threads;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t i = 0; i < threads; i++)
        forward_bfloat16(*call, rows * i / threads, rows * (i + 1) / threads, call->scratch + i * call->scratch_size);
}
#endif

extern "C" void neighborhood_attention_gradients(const Call *call) {
    int64_t rows = call->batch * call->heads * call->height, threads = call->threads, K = call->kernel_size;
    int64_t table = call->heads * call->positions * (2 * K - 1) * K;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t i = 0; i < threads; i++)
        backward(*call, rows * i / threads, rows * (i + 1) / threads, call->scratch + i * call->scratch_size,
                 call->dbias ? call->dbias + i * table : nullptr);
}

// Neighborhood attention on a processor, without anything computed that a window does not need.
//
// NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.
//
// Two sorts of products, by what the 16 lanes of a vector stand for:
//   logits        16 queries of a row, neighbours in a dilation group: their j-th keys are neighbours too, so that in a
//                 transposed row of keys one load has them all. Windows pushed inwards at an end of a group only permute
//                 the lanes of that load.
//   mixing        16 channels of a pixel, as they lie in memory, for 4 queries at a time; the gradients of keys and
//                 values are gathered the same way, by the queries that see a key, so that no two threads write one place.
//
// A thread takes a stretch of rows and goes down it with the rows around: rows as they are and transposed, and in the
// gradient the weights of rows of queries, are kept in rings little longer than a window, which a cache holds.
//
// A row's columns are laid out group after group ("slots"): keys of a window lie side by side. Each group begins where
// a vector begins or, if it is short, at a half or a quarter of one.
//
// No names of the standard library are used, so that it compiles in a few seconds.
#include <stdint.h>

#define RESTRICT __restrict__
#define INLINE static inline __attribute__((always_inline))

namespace {

constexpr int LANES = 16, LARGEST_WINDOW = 31;  // as in compiled.py
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
template <int N> struct Channels { typedef float type __attribute__((vector_size(4 * N), aligned(4), may_alias)); };

struct Map {  // [batch, height, width, heads, channels], the channels of a pixel beside each other
    float *data;
    int64_t batch, row, column, head;
    float *at(int64_t b, int64_t h, int64_t y, int64_t x) const { return data + b * batch + h * head + y * row + x * column; }
};

}  // namespace

struct Call {  // as in compiled.py
    int64_t batch, height, width, heads, dim, kernel_size, dilation, threads;
    int64_t slots, pitch;  // slots of a row; floats from channel to channel of a transposed row
    float scale;
    const int32_t *column;    // [slots] the column of each slot, or -1
    const int32_t *start;     // [slots] the slot where the window of each slot begins
    const int32_t *base;      // [slots / 16] the slot where the windows of a vector begin
    const int32_t *lane;      // [slots / 16, 16] where in the load from there each lane finds its key
    const int32_t *straight;  // [slots / 16] whether that is where it stands
    const int32_t *first, *last;  // [slots] the slots of the first and last query of a row that sees a slot
    Map q, k, v, y, grad, dq, dk, dv;
    const float *bias;      // [heads, slots / 16, 2K-1, K, 16] or null: what to add to each logit
    float *dbias;           // [threads, heads, slots / 16, 2K-1, K, 16] or null, zero
    float *scratch;         // [threads, room], zero
    int64_t room;
};

namespace {

INLINE Lanes load(const float *p) { return *(const Lanes *)p; }
INLINE void store(float *p, Lanes x) { *(Lanes *)p = x; }
INLINE Lanes all(float x) { return x - Lanes{}; }

INLINE Lanes permute(Lanes x, Ints lane) {
#if defined(__clang__)
    Lanes y;
    for (int l = 0; l < LANES; l++) y[l] = x[lane[l]];
    return y;
#else
    return __builtin_shuffle(x, lane);
#endif
}

INLINE Lanes pick(Lanes a, Lanes b, Ints lane) {  // lanes of both, those of the second counted from 16
#if defined(__clang__)
    Lanes y;
    for (int l = 0; l < LANES; l++) y[l] = lane[l] < LANES ? a[lane[l]] : b[lane[l] - LANES];
    return y;
#else
    return __builtin_shuffle(a, b, lane);
#endif
}

// e^x for x <= 0, to a part in ten million: 2^n times a polynomial of what is left
INLINE Lanes exponential(Lanes x) {
    x = x < -87.0f ? all(-87.0f) : x;
    Lanes shifted = x * 1.44269504f + 12582912.0f;  // the sum has the nearest integer in its last bits
    Lanes n = shifted - 12582912.0f;
    Lanes r = x - n * 0.693145752f - n * 1.42860677e-6f;
    Lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    Ints power = ((Ints)shifted - 0x4B400000 + 127) << 23;
    return p * (Lanes)power;
}

struct Stretch {  // rows of one dilation group of one head of one image
    int64_t b, h, group, length;  // which, and how many rows the group has
    int64_t first, last;          // from which to before which

    Stretch(const Call &call, int64_t row, int64_t end) {  // `row` counts image by image, head by head, group by group
        b = row / (call.heads * call.height), h = row / call.height % call.heads;
        int64_t left = row % call.height;
        for (group = 0;; group++) {
            length = (call.height - group + call.dilation - 1) / call.dilation;
            if (left < length) break;
            left -= length;
        }
        first = left, last = length < left + end - row ? length : left + end - row;
    }
    int64_t row(const Call &call, int64_t place) const { return group + call.dilation * place; }
    int64_t start(const Call &call, int64_t place) const {  // where the window of a row of queries begins
        int64_t start = place - call.kernel_size / 2, most = length - call.kernel_size;
        return start < 0 ? 0 : start > most ? most : start;
    }
    int64_t first_query(const Call &call, int64_t place) const { return place < call.kernel_size ? 0 : place - call.kernel_size / 2; }
    int64_t last_query(const Call &call, int64_t place) const {
        return place >= length - call.kernel_size ? length - 1 : place + call.kernel_size / 2;
    }
};

// 16 x 16 numbers with rows and columns exchanged: in each of four rounds, half of every row goes to another.
template <int STEP>
INLINE void exchange(Lanes *x) {
    Ints low, high;
    for (int l = 0; l < LANES; l++) {
        low[l] = l & STEP ? l - STEP + LANES : l;
        high[l] = l & STEP ? l + LANES : l + STEP;
    }
    for (int i = 0; i < LANES; i++) {
        if (i & STEP) continue;
        Lanes a = x[i], b = x[i + STEP];
        x[i] = pick(a, b, low), x[i + STEP] = pick(a, b, high);
    }
}

// Pixels of 16 slots, `dim` floats each, as rows of 16 for each channel, `pitch` floats apart.
void transpose(const float *from, int64_t dim, float scale, float *to, int64_t pitch) {
    int64_t d = 0;
    for (; d + LANES <= dim; d += LANES) {
        Lanes x[LANES];
        for (int l = 0; l < LANES; l++) x[l] = load(from + l * dim + d) * scale;
        exchange<8>(x), exchange<4>(x), exchange<2>(x), exchange<1>(x);
        for (int l = 0; l < LANES; l++) store(to + (d + l) * pitch, x[l]);
    }
    for (; d < dim; d++)
        for (int l = 0; l < LANES; l++) to[d * pitch + l] = from[l * dim + d] * scale;
}

// Products of 16 queries of one row or of two, [dim, 16] each, with N keys, the first of which is at `keys`.
template <int N, int Q, bool STRAIGHT>
INLINE void multiply(int64_t dim, int64_t pitch, const float *query, const float *keys, Ints lane, float *const *out) {
    Lanes sums[Q][N] = {};
    for (int64_t d = 0; d < dim; d++) {
        Lanes q[Q];
        for (int i = 0; i < Q; i++) q[i] = load(query + (i * dim + d) * LANES);
        for (int j = 0; j < N; j++) {
            Lanes k = load(keys + d * pitch + j);
            if (!STRAIGHT) k = permute(k, lane);
            for (int i = 0; i < Q; i++) sums[i][j] += q[i] * k;
        }
    }
    for (int i = 0; i < Q; i++)
        for (int j = 0; j < N; j++) store(out[i] + j * LANES, sums[i][j]);
}

template <int Q, bool STRAIGHT>
INLINE void multiply(const Call &call, const float *query, const float *keys, Ints lane, float *const *out) {
    for (int64_t j = 0; j < call.kernel_size;) {
        float *to[Q];
        for (int i = 0; i < Q; i++) to[i] = out[i] + j * LANES;
        int64_t left = call.kernel_size - j;
#define MULTIPLY(N) multiply<N, Q, STRAIGHT>(call.dim, call.pitch, query, keys + j, lane, to), j += N
        if (left >= 7) MULTIPLY(7);
        else if (left >= 5) MULTIPLY(5);
        else if (left >= 3) MULTIPLY(3);
        else if (left == 2) MULTIPLY(2);
        else MULTIPLY(1);
#undef MULTIPLY
    }
}

template <int Q>
INLINE void multiply(const Call &call, int64_t vector, const float *query, const float *keys, float *const *out) {
    keys += call.base[vector];
    if (call.straight[vector]) multiply<Q, true>(call, query, keys, Ints{}, out);
    else multiply<Q, false>(call, query, keys, *(const Ints *)(call.lane + vector * LANES), out);
}

// Products of the queries of a vector of `rows` rows, one or two, with all keys of their windows: [K K, 16] each.
void products(const Call &call, int64_t vector, const int64_t *start, int64_t rows, const float *query,
              const float *const *keys_of, float *const *out) {
    int64_t K = call.kernel_size, step = K * LANES, last = start[rows - 1];
    for (int64_t key = start[0]; key < last + K; key++) {  // queries below each other have most rows of keys in common
        const float *keys = keys_of[key - start[0]];
        int64_t a = key - start[0], b = key - last;
        if (rows == 2 && a < K && b >= 0) {
            float *to[2] = {out[0] + a * step, out[1] + b * step};
            multiply<2>(call, vector, query, keys, to);
        } else if (a < K) {
            float *to[1] = {out[0] + a * step};
            multiply<1>(call, vector, query, keys, to);
        } else {
            float *to[1] = {out[1] + b * step};
            multiply<1>(call, vector, query + call.dim * LANES, keys, to);
        }
    }
}

// Softmax over the windows of a vector's queries; in place.
void softmax(const Call &call, const float *table, float *logits) {
    int64_t count = call.kernel_size * call.kernel_size;
    if (table) {
        for (int64_t i = 0; i < count * LANES; i += LANES) store(logits + i, load(logits + i) + load(table + i));
    }
    Lanes most = load(logits), sum = {};
    for (int64_t i = 1; i < count; i++) {
        Lanes x = load(logits + i * LANES);
        most = x > most ? x : most;
    }
    for (int64_t i = 0; i < count; i++) {
        Lanes e = exponential(load(logits + i * LANES) - most);
        sum += e;
        store(logits + i * LANES, e);
    }
    Lanes part = 1.0f / sum;
    for (int64_t i = 0; i < count; i++) store(logits + i * LANES, load(logits + i * LANES) * part);
}

// Sums over windows for 4 queries side by side, and for N M channels. If the windows lie one key further from query to
// query (SLIDING), each key is loaded once for all.
template <int N, int M, bool SLIDING>
INLINE void blend(const Call &call, const float *const *rows, int64_t channel, const int32_t *first, const float *weights,
                  float scale, float *const *to) {
    typedef typename Channels<N>::type V;
    int64_t K = call.kernel_size;
    V sums[4][M] = {};
    for (int64_t a = 0; a < K; a++, weights += K * LANES) {
        const float *keys = rows[a] + channel;
        auto add = [&](int64_t key, int i, int64_t j) __attribute__((always_inline)) {
            for (int m = 0; m < M; m++) sums[i][m] += weights[j * LANES + i] * *(const V *)(keys + key * call.dim + m * N);
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
INLINE void blend(const Call &call, int64_t &channel, const float *const *rows, int64_t slot, const float *weights, float scale,
                  float *const *to) {
    const int32_t *first = call.start + slot;
    bool sliding = call.kernel_size > 1 && to[3] && first[1] == first[0] + 1 && first[2] == first[0] + 2 && first[3] == first[0] + 3;
    for (; channel + M * N <= call.dim; channel += M * N) {
        float *there[4];
        for (int i = 0; i < 4; i++) there[i] = to[i] ? to[i] + channel : nullptr;
        if (sliding) blend<N, M, true>(call, rows, channel, first, weights + slot % LANES, scale, there);
        else blend<N, M, false>(call, rows, channel, first, weights + slot % LANES, scale, there);
    }
}

// What the queries of a vector take from the pixels of their windows, whose rows are given.
void mix(const Call &call, int64_t vector, const Stretch &at, int64_t place, const float *const *rows, const float *weights,
         float scale, const Map &into) {
    for (int64_t slot = vector * LANES; slot < (vector + 1) * LANES; slot += 4) {
        float *to[4];
        for (int i = 0; i < 4; i++) {
            int32_t column = call.column[slot + i];
            to[i] = column < 0 ? nullptr : into.at(at.b, at.h, at.row(call, place), column);
        }
        if (!to[0]) continue;  // gaps come last
        int64_t channel = 0;
        blend<16, 4>(call, channel, rows, slot, weights, scale, to);
        blend<16, 2>(call, channel, rows, slot, weights, scale, to);
        blend<16, 1>(call, channel, rows, slot, weights, scale, to);
        blend<4, 1>(call, channel, rows, slot, weights, scale, to);
        blend<1, 1>(call, channel, rows, slot, weights, scale, to);
    }
}

struct Seen {  // rows of queries that see a row of keys: queries, gradients, and what the row of keys weighs for them
    const float *query, *grad, *weight, *slope;
};

// Sums over the queries that see each of G keys side by side, N M channels of them: into dk of queries, into dv of
// gradients. If the queries lie one further from key to key (SLIDING), each is loaded once for all.
template <int N, int M, int G, bool SLIDING>
INLINE void collect(const Call &call, int64_t channel, int64_t slot, const Seen *seen, int64_t rows, float *const *dk,
                    float *const *dv) {
    typedef typename Channels<N>::type V;
    int64_t K = call.kernel_size;
    V of_key[G][M] = {}, of_value[G][M] = {};
    for (int64_t row = 0; row < rows; row++) {
        const Seen &here = seen[row];
        auto add = [&](int64_t query, int64_t j, int low, int high) __attribute__((always_inline)) {  // j of key 0
            int64_t pixel = query * call.dim + channel;
            int64_t there = query / LANES * (K * K * LANES) + query % LANES + j * LANES;
            for (int i = low; i < high; i++)
                for (int m = 0; m < M; m++) {
                    of_key[i][m] += here.slope[there + i * LANES] * *(const V *)(here.query + pixel + m * N);
                    of_value[i][m] += here.weight[there + i * LANES] * *(const V *)(here.grad + pixel + m * N);
                }
        };
        int64_t query = call.first[slot];
        if (SLIDING) {
            add(query, K - 1, 0, 1), add(query + 1, K - 2, 0, 2), add(query + 2, K - 3, 0, 3);
            for (int64_t t = 3; t < K; t++) add(query + t, K - 1 - t, 0, 4);
            add(query + K, -1, 1, 4), add(query + K + 1, -2, 2, 4), add(query + K + 2, -3, 3, 4);
        } else {
            for (; query <= call.last[slot]; query++) add(query, slot - call.start[query], 0, G);
        }
    }
    for (int i = 0; i < G; i++)
        for (int m = 0; m < M; m++) {
            *(V *)(dk[i] + channel + m * N) = of_key[i][m] * call.scale;
            *(V *)(dv[i] + channel + m * N) = of_value[i][m];
        }
}

template <int G, bool SLIDING>
INLINE void collect(const Call &call, int64_t slot, const Seen *seen, int64_t rows, float *const *dk, float *const *dv) {
    int64_t channel = 0;
    for (; channel + 32 <= call.dim; channel += 32) collect<16, 2, G, SLIDING>(call, channel, slot, seen, rows, dk, dv);
    for (; channel + 16 <= call.dim; channel += 16) collect<16, 1, G, SLIDING>(call, channel, slot, seen, rows, dk, dv);
    for (; channel + 4 <= call.dim; channel += 4) collect<4, 1, G, SLIDING>(call, channel, slot, seen, rows, dk, dv);
    for (; channel < call.dim; channel++) collect<1, 1, G, SLIDING>(call, channel, slot, seen, rows, dk, dv);
}

// The gradients of a row of keys and values; the arrays are rings of 2K rows of queries.
void collect_row(const Call &call, const Stretch &at, int64_t place, const float *queries, const float *grads,
                 const float *weights, const float *slopes) {
    int64_t K = call.kernel_size, first = at.first_query(call, place), rows = at.last_query(call, place) - first + 1;
    Seen seen[2 * LARGEST_WINDOW];
    for (int64_t i = 0; i < rows; i++) {
        int64_t turn = (first + i) % (2 * K), pixels = turn * call.slots * call.dim;
        int64_t there = turn * call.slots * K * K + (place - at.start(call, first + i)) * K * LANES;
        seen[i] = {queries + pixels, grads + pixels, weights + there, slopes + there};
    }
    float *to_key = call.dk.at(at.b, at.h, at.row(call, place), 0), *to_value = call.dv.at(at.b, at.h, at.row(call, place), 0);
    for (int64_t slot = 0; slot < call.slots; slot += 4) {
        float *dk[4], *dv[4];
        bool sliding = K > 1;
        for (int i = 0; i < 4; i++) {
            int64_t column = call.column[slot + i];
            sliding &= column >= 0 && call.first[slot + i] == call.first[slot] + i && call.last[slot + i] == call.first[slot] + i + K - 1;
            dk[i] = to_key + column * call.dk.column, dv[i] = to_value + column * call.dv.column;
        }
        if (sliding) {
            collect<4, true>(call, slot, seen, rows, dk, dv);
            continue;
        }
        for (int i = 0; i < 4; i++)
            if (call.column[slot + i] >= 0) collect<1, false>(call, slot + i, seen, rows, dk + i, dv + i);
    }
}

// Where a table of [heads, slots / 16, 2K-1, K, 16] has what belongs to a vector of a row of queries.
INLINE int64_t table_of(const Call &call, int64_t vector, const Stretch &at, int64_t place) {
    int64_t K = call.kernel_size, block = (at.h * (call.slots / LANES) + vector) * (2 * K - 1);
    return (block + at.start(call, place) - place + K - 1) * K * LANES;
}

// A row of pixels in the order of slots; gaps are left as they are.
void pack(const Call &call, const Stretch &at, int64_t place, const Map &map, float *RESTRICT to) {
    const float *row = map.at(at.b, at.h, at.row(call, place), 0);
    for (int64_t slot = 0; slot < call.slots; slot++) {
        if (call.column[slot] < 0) continue;
        const float *pixel = row + call.column[slot] * map.column;
        int64_t d = 0;
        for (; d + LANES <= call.dim; d += LANES) store(to + slot * call.dim + d, load(pixel + d));
        for (; d < call.dim; d++) to[slot * call.dim + d] = pixel[d];
    }
}

struct Ring {  // as many rows of keys or values as two rows of queries see
    float *rows, *transposed;

    Ring(const Call &call, float *&scratch) {
        int64_t length = call.kernel_size + 1;
        rows = scratch, scratch += length * call.slots * call.dim;
        transposed = scratch, scratch += length * call.pitch * call.dim;
    }
    // The rows from `start` on that a window has, and one more.
    void point(const Call &call, int64_t start, const float **as_they_are, const float **across) const {
        for (int64_t a = 0; a <= call.kernel_size; a++) {
            int64_t turn = (start + a) % (call.kernel_size + 1);
            as_they_are[a] = rows + turn * call.slots * call.dim, across[a] = transposed + turn * call.pitch * call.dim;
        }
    }
    // Takes rows down to where a window ends that begins at `start`; `reached` is the first that is not there.
    void advance(const Call &call, const Stretch &at, int64_t start, const Map &map, int64_t reached, bool across) {
        for (int64_t place = reached; place < start + call.kernel_size; place++) {
            int64_t turn = place % (call.kernel_size + 1);
            float *row = rows + turn * call.slots * call.dim;
            pack(call, at, place, map, row);
            if (!across) continue;
            for (int64_t slot = 0; slot < call.slots; slot += LANES)
                transpose(row + slot * call.dim, call.dim, 1.0f, transposed + turn * call.dim * call.pitch + slot, call.pitch);
        }
    }
};

void forward(const Call &call, int64_t begin, int64_t end, float *scratch) {
    int64_t K = call.kernel_size, size = call.slots * call.dim;
    Ring keys(call, scratch), values(call, scratch);
    float *queries = scratch, *query = queries + 2 * size, *weights = query + 2 * call.dim * LANES;
    float *weight[2] = {weights, weights + K * K * LANES};
    const float *key_rows[LARGEST_WINDOW + 1], *key_planes[LARGEST_WINDOW + 1];
    const float *value_rows[LARGEST_WINDOW + 1], *value_planes[LARGEST_WINDOW + 1];
    while (begin < end) {
        Stretch at(call, begin, end);
        int64_t reached = at.start(call, at.first);
        for (int64_t place = at.first; place < at.last; place += 2) {
            int64_t rows = at.last - place > 1 ? 2 : 1, start[2] = {at.start(call, place), at.start(call, place + rows - 1)};
            keys.advance(call, at, start[rows - 1], call.k, reached, true);
            values.advance(call, at, start[rows - 1], call.v, reached, false);
            reached = start[rows - 1] + K;
            keys.point(call, start[0], key_rows, key_planes), values.point(call, start[0], value_rows, value_planes);
            for (int64_t i = 0; i < rows; i++) pack(call, at, place + i, call.q, queries + i * size);
            for (int64_t vector = 0; vector < call.slots / LANES; vector++) {
                for (int64_t i = 0; i < rows; i++)
                    transpose(queries + i * size + vector * LANES * call.dim, call.dim, call.scale, query + i * call.dim * LANES, LANES);
                products(call, vector, start, rows, query, key_planes, weight);
                for (int64_t i = 0; i < rows; i++) {
                    softmax(call, call.bias ? call.bias + table_of(call, vector, at, place + i) : nullptr, weight[i]);
                    mix(call, vector, at, place + i, value_rows + start[i] - start[0], weight[i], 1.0f, call.y);
                }
            }
        }
        begin += at.last - at.first;
    }
}

void backward(const Call &call, int64_t begin, int64_t end, float *scratch, float *dbias) {
    int64_t K = call.kernel_size, count = K * K * LANES, size = call.slots * call.dim, vectors = call.slots / LANES;
    Ring keys(call, scratch), values(call, scratch);
    float *queries = scratch, *grads = queries + 2 * K * size, *weights = grads + 2 * K * size;
    float *slopes = weights + 2 * K * vectors * count, *query = slopes + 2 * K * vectors * count;
    float *grad = query + 2 * call.dim * LANES;
    const float *key_rows[LARGEST_WINDOW + 1], *key_planes[LARGEST_WINDOW + 1];
    const float *value_rows[LARGEST_WINDOW + 1], *value_planes[LARGEST_WINDOW + 1];
    while (begin < end) {
        Stretch at(call, begin, end);
        int64_t done = at.first, place = at.first_query(call, at.first), last = at.last_query(call, at.last - 1);
        int64_t reached = at.start(call, place);
        for (; place <= last; place += 2) {  // rows of queries that see the stretch's keys, some of them outside it
            int64_t rows = last - place > 0 ? 2 : 1, start[2] = {at.start(call, place), at.start(call, place + rows - 1)};
            keys.advance(call, at, start[rows - 1], call.k, reached, true);
            values.advance(call, at, start[rows - 1], call.v, reached, true);
            reached = start[rows - 1] + K;
            keys.point(call, start[0], key_rows, key_planes), values.point(call, start[0], value_rows, value_planes);
            for (int64_t i = 0; i < rows; i++) {
                pack(call, at, place + i, call.q, queries + (place + i) % (2 * K) * size);
                pack(call, at, place + i, call.grad, grads + (place + i) % (2 * K) * size);
            }
            for (int64_t vector = 0; vector < vectors; vector++) {
                float *weight[2], *slope[2];
                for (int64_t i = 0; i < rows; i++) {
                    int64_t turn = (place + i) % (2 * K), pixels = turn * size + vector * LANES * call.dim;
                    weight[i] = weights + (turn * vectors + vector) * count;
                    slope[i] = slopes + (turn * vectors + vector) * count;
                    transpose(queries + pixels, call.dim, call.scale, query + i * call.dim * LANES, LANES);
                    transpose(grads + pixels, call.dim, 1.0f, grad + i * call.dim * LANES, LANES);
                }
                products(call, vector, start, rows, query, key_planes, weight);
                products(call, vector, start, rows, grad, value_planes, slope);
                for (int64_t i = 0; i < rows; i++) {
                    softmax(call, call.bias ? call.bias + table_of(call, vector, at, place + i) : nullptr, weight[i]);
                    Lanes mean = {};
                    for (int64_t n = 0; n < count; n += LANES) mean += load(weight[i] + n) * load(slope[i] + n);
                    for (int64_t n = 0; n < count; n += LANES)
                        store(slope[i] + n, (load(slope[i] + n) - mean) * load(weight[i] + n));
                    if (place + i < at.first || place + i >= at.last) continue;
                    mix(call, vector, at, place + i, key_rows + start[i] - start[0], slope[i], call.scale, call.dq);
                    if (!dbias) continue;
                    float *sums = dbias + table_of(call, vector, at, place + i);
                    for (int64_t n = 0; n < count; n += LANES) store(sums + n, load(sums + n) + load(slope[i] + n));
                }
            }
            for (; done < at.last && at.last_query(call, done) < place + rows; done++)
                collect_row(call, at, done, queries, grads, weights, slopes);
        }
        begin += at.last - at.first;
    }
}

}  // namespace

// Every thread has its part of the rows, fixed beforehand, so that sums do not depend on who comes first.

extern "C" void neighborhood_attention(const Call *call) {
    int64_t rows = call->batch * call->heads * call->height, threads = call->threads;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t i = 0; i < threads; i++)
        forward(*call, rows * i / threads, rows * (i + 1) / threads, call->scratch + i * call->room);
}

extern "C" void neighborhood_attention_gradients(const Call *call) {
    int64_t rows = call->batch * call->heads * call->height, threads = call->threads, K = call->kernel_size;
    int64_t table = call->heads * call->slots * (2 * K - 1) * K;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t i = 0; i < threads; i++)
        backward(*call, rows * i / threads, rows * (i + 1) / threads, call->scratch + i * call->room,
                 call->dbias ? call->dbias + i * table : nullptr);
}

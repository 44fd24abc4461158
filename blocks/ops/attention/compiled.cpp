// Dense attention on CPUs. The 16 lanes of a vector hold 16 queries, so that softmax needs no sums across lanes.
//
// A block of 32 queries keeps its logits for all keys in the cache. Both products, of queries with keys and of weights
// with values, multiply vectors of queries by numbers that are broadcast. In bfloat16 a lane holds two channels of a
// query, then the weights of two neighbouring keys; logits, softmax and sums are in float32.
#include "../lanes.h"

struct Map {  // [batch, heads, tokens, channels] with contiguous channels
    float *data;
    int64_t batch, head, token;
    float *at(int64_t b, int64_t h, int64_t t) const { return data + b * batch + h * head + t * token; }
};

struct Call {  // as in compiled.py; a channel is a float, or a word of two bfloat16 channels
    int64_t batch, heads, queries, keys, dim, threads;
    float scale;
    Map q, k, v, y;
    float *scratch;  // [threads, scratch_size]
    int64_t scratch_size;
};

namespace {

constexpr int VECTORS = 2, BLOCK = VECTORS * LANES;  // queries that are computed at once
constexpr int COLUMNS = 8;  // of a product that are summed in registers at once

INLINE Lanes broadcast_word(const float *word) { return (Lanes)(*(const int32_t *)word - Ints{}); }

// out[n] = sum over k of a[k] b(n, k) for N columns; a[k] and out[n] are 32 lanes.
template <typename Numbers, int N>
INLINE void multiply(int64_t depth, const float *a, const float *b, int64_t b_n, int64_t b_k, float *out) {
    Lanes sums[N][VECTORS] = {};
    for (int64_t k = 0; k < depth; k++, a += BLOCK, b += b_k) {
        Lanes x[VECTORS];
        for (int i = 0; i < VECTORS; i++) x[i] = load(a + i * LANES);
        for (int n = 0; n < N; n++) {
            Lanes y = broadcast_word(b + n * b_n);
            for (int i = 0; i < VECTORS; i++) Numbers::add(sums[n][i], x[i], y);
        }
    }
    for (int n = 0; n < N; n++)
        for (int i = 0; i < VECTORS; i++) store(out + n * BLOCK + i * LANES, sums[n][i]);
}

template <typename Numbers>
void product(int64_t columns, int64_t depth, const float *a, const float *b, int64_t b_n, int64_t b_k, float *out) {
    int64_t n = 0;
    for (; n + COLUMNS <= columns; n += COLUMNS)
        multiply<Numbers, COLUMNS>(depth, a, b + n * b_n, b_n, b_k, out + n * BLOCK);
    for (; n < columns; n++) multiply<Numbers, 1>(depth, a, b + n * b_n, b_n, b_k, out + n * BLOCK);
}

// e^(scale x - largest) of the logits x of each query, in place, and the sums of these weights.
void unnormalized_softmax(const Call &call, float *logits, Lanes *sums) {
    for (int i = 0; i < VECTORS; i++) {
        float *x = logits + i * LANES;
        Lanes largest = load(x) * call.scale, sum = {};
        for (int64_t j = 1; j < call.keys; j++) {
            Lanes logit = load(x + j * BLOCK) * call.scale;
            largest = logit > largest ? logit : largest;
        }
        for (int64_t j = 0; j < call.keys; j++) {
            Lanes e = exponential(load(x + j * BLOCK) * call.scale - largest);
            sum += e;
            store(x + j * BLOCK, e);
        }
        sums[i] = sum;
    }
}

// Queries `first` and on, transposed: [dim, 32]. Those beyond the last are copies of the last.
void load_queries(const Call &call, int64_t b, int64_t h, int64_t first, float *to) {
    for (int64_t d = 0; d < call.dim; d += LANES)
        for (int i = 0; i < VECTORS; i++) {
            Lanes x[LANES];
            for (int l = 0; l < LANES; l++) {
                int64_t token = first + i * LANES + l;
                x[l] = load(call.q.at(b, h, token < call.queries ? token : call.queries - 1) + d);
            }
            exchange<8>(x), exchange<4>(x), exchange<2>(x), exchange<1>(x);
            for (int l = 0; l < LANES; l++) store(to + (d + l) * BLOCK + i * LANES, x[l]);
        }
}

// The channels d to d + 15 of the vector `i` of queries, from rows of lanes.
INLINE void store_channels(const Call &call, int64_t b, int64_t h, int64_t first, int64_t d, int i, Lanes *x) {
    exchange<8>(x), exchange<4>(x), exchange<2>(x), exchange<1>(x);
    for (int l = 0; l < LANES; l++) {
        int64_t token = first + i * LANES + l;
        if (token < call.queries) store(call.y.at(b, h, token) + d, x[l]);
    }
}

struct Float32 {
    static void attend(const Call &call, int64_t b, int64_t h, int64_t first, bool, float *scratch) {
        float *queries = scratch, *logits = queries + call.dim * BLOCK, *sums = logits + call.keys * BLOCK;
        Lanes total[VECTORS];
        load_queries(call, b, h, first, queries);
        product<Floats>(call.keys, call.dim, queries, call.k.at(b, h, 0), call.k.token, 1, logits);
        unnormalized_softmax(call, logits, total);
        product<Floats>(call.dim, call.keys, logits, call.v.at(b, h, 0), 1, call.v.token, sums);
        for (int i = 0; i < VECTORS; i++) {
            Lanes part = 1.0f / total[i];
            for (int64_t d = 0; d < call.dim; d += LANES) {
                Lanes x[LANES];
                for (int l = 0; l < LANES; l++) x[l] = load(sums + (d + l) * BLOCK + i * LANES) * part;
                store_channels(call, b, h, first, d, i, x);
            }
        }
    }
};

#ifdef __AVX512BF16__
struct BFloat16 {
    // Pairs of neighbouring values, [keys / 2, 2 dim]: of 32 channels first the even ones, then the odd ones.
    static void pair_values(const Call &call, int64_t b, int64_t h, float *to) {
        for (int64_t j = 0; j < call.keys; j += 2)
            for (int64_t d = 0; d < call.dim; d += LANES, to += 2 * LANES) {
                Words x = (Words)load(call.v.at(b, h, j) + d), y = {};
                if (j + 1 < call.keys) y = (Words)load(call.v.at(b, h, j + 1) + d);
                store(to, (Lanes)((x & 0xFFFF) | y << 16));
                store(to + LANES, (Lanes)(x >> 16 | (y & 0xFFFF0000u)));
            }
    }
    static void attend(const Call &call, int64_t b, int64_t h, int64_t first, bool new_head, float *scratch) {
        int64_t pairs = (call.keys + 1) / 2;
        float *values = scratch, *queries = values + 2 * pairs * call.dim, *logits = queries + call.dim * BLOCK;
        float *sums = logits + 2 * pairs * BLOCK;
        Lanes total[VECTORS];
        if (new_head) pair_values(call, b, h, values);
        load_queries(call, b, h, first, queries);
        product<Pairs>(call.keys, call.dim, queries, call.k.at(b, h, 0), call.k.token, 1, logits);
        unnormalized_softmax(call, logits, total);
        for (int64_t j = 0; j < pairs; j++)
            for (int i = 0; i < VECTORS; i++) {
                const float *from = logits + 2 * j * BLOCK + i * LANES;
                Lanes second = 2 * j + 1 < call.keys ? load(from + BLOCK) : Lanes{};
                store(logits + j * BLOCK + i * LANES, join(load(from), second));
            }
        product<Pairs>(2 * call.dim, pairs, logits, values, 1, 2 * call.dim, sums);
        for (int i = 0; i < VECTORS; i++) {
            Lanes part = 1.0f / total[i];
            for (int64_t d = 0; d < call.dim; d += LANES) {
                Lanes x[LANES];
                for (int l = 0; l < LANES; l++) {
                    const float *even = sums + (2 * d + l) * BLOCK + i * LANES;
                    x[l] = join(load(even) * part, load(even + LANES * BLOCK) * part);
                }
                store_channels(call, b, h, first, d, i, x);
            }
        }
    }
};
#endif

template <typename Numbers> void attend_all(const Call &call) {
    int64_t blocks = (call.queries + BLOCK - 1) / BLOCK, total = call.batch * call.heads * blocks;
#pragma omp parallel for num_threads(call.threads) schedule(static, 1)
    for (int64_t thread = 0; thread < call.threads; thread++) {
        int64_t begin = total * thread / call.threads, end = total * (thread + 1) / call.threads;
        for (int64_t n = begin; n < end; n++) {
            int64_t head = n / blocks;
            Numbers::attend(call, head / call.heads, head % call.heads, n % blocks * BLOCK,
                            n == begin || n % blocks == 0, call.scratch + thread * call.scratch_size);
        }
    }
}

}  // namespace

// Without AVX-512 there are too few registers, and PyTorch's attention is faster.
#ifdef __AVX512F__
extern "C" void attention_float32(const Call *call) { attend_all<Float32>(*call); }
#endif
#ifdef __AVX512BF16__
extern "C" void attention_bfloat16(const Call *call) { attend_all<BFloat16>(*call); }
#endif

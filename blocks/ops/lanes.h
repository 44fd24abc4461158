// Vectors of 16 floats, or of 16 words of two bfloat16 numbers: loads, permutations, exponentials, transposes, products.
#pragma once
#include <stdint.h>

#define RESTRICT __restrict__
#define INLINE static inline __attribute__((always_inline))

namespace {

constexpr int LANES = 16;
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
template <int N> struct Channels {
    typedef float type __attribute__((vector_size(4 * N), aligned(4), may_alias));
};

INLINE Lanes load(const float *p) { return *(const Lanes *)p; }
INLINE void store(float *p, Lanes x) { *(Lanes *)p = x; }
INLINE Lanes broadcast(float x) { return x - Lanes{}; }

INLINE Lanes permute(Lanes x, Ints lane) {
#if defined(__clang__)
    Lanes y;
    for (int l = 0; l < LANES; l++) y[l] = x[lane[l]];
    return y;
#else
    return __builtin_shuffle(x, lane);
#endif
}

INLINE Lanes select(Lanes a, Lanes b, Ints lane) {  // lanes of both; those of b count from 16
#if defined(__clang__)
    Lanes y;
    for (int l = 0; l < LANES; l++) y[l] = lane[l] < LANES ? a[lane[l]] : b[lane[l] - LANES];
    return y;
#else
    return __builtin_shuffle(a, b, lane);
#endif
}

// e^x for x <= 0 with a relative error of 1e-7: 2^n times a polynomial of the remainder
INLINE Lanes exponential(Lanes x) {
    x = x < -87.0f ? broadcast(-87.0f) : x;
    Lanes shifted = x * 1.44269504f + 12582912.0f;  // rounds to the nearest integer, in the last bits
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

// One of four steps that transpose a 16 x 16 matrix: exchanges the off-diagonal blocks of size STEP.
template <int STEP> INLINE void exchange(Lanes *x) {
    Ints low, high;
    for (int l = 0; l < LANES; l++) {
        low[l] = l & STEP ? l - STEP + LANES : l;
        high[l] = l & STEP ? l + LANES : l + STEP;
    }
    for (int i = 0; i < LANES; i++) {
        if (i & STEP) continue;
        Lanes a = x[i], b = x[i + STEP];
        x[i] = select(a, b, low), x[i + STEP] = select(a, b, high);
    }
}

// Transposes 16 pixels of `dim` floats each into a row of 16 floats per channel, `pitch` floats apart, times `scale`. If
// not SCALED, words are moved as they are.
template <bool SCALED> void transpose(const float *from, int64_t dim, float scale, float *to, int64_t pitch) {
    int64_t d = 0;
    for (; d + LANES <= dim; d += LANES) {
        Lanes x[LANES];
        for (int l = 0; l < LANES; l++) x[l] = SCALED ? load(from + l * dim + d) * scale : load(from + l * dim + d);
        exchange<8>(x), exchange<4>(x), exchange<2>(x), exchange<1>(x);
        for (int l = 0; l < LANES; l++) store(to + (d + l) * pitch, x[l]);
    }
    for (; d < dim; d++)
        for (int l = 0; l < LANES; l++) to[d * pitch + l] = SCALED ? from[l * dim + d] * scale : from[l * dim + d];
}

struct Floats {  // the lanes are floats; sum += a b
    INLINE void add(Lanes &sum, Lanes a, Lanes b) { sum += a * b; }
};

#ifdef __AVX512BF16__
struct Pairs {  // the lanes of a and b are pairs; sum += a[0] b[0] + a[1] b[1]
    INLINE void add(Lanes &sum, Lanes a, Lanes b) { asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b)); }
};

typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

INLINE Words rounded(Lanes x) {  // to the nearest bfloat16, in the upper half of each word; NaNs stay NaNs
    Words bits = (Words)x;
    return x == x ? bits + 0x7FFF + (bits >> 16 & 1) : bits | 0x400000;
}
INLINE Lanes join(Lanes low, Lanes high) { return (Lanes)(rounded(low) >> 16 | (rounded(high) & 0xFFFF0000u)); }
#endif

}  // namespace

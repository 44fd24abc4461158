// The transforms of maps in Winograd's convolution, tile by tile; `winograd.py` has the products between them.
//
// Lavin & Gray 2015, https://arxiv.org/abs/1509.09308, section 4.1, F(2x2, 3x3).
//
// A map is [batch, height, width, channels] in memory. Planes are [16, tiles, channels]: plane 4 i + j holds entry (i,
// j) of every tile's 4x4 transform, so that one matrix multiplies a plane. All lanes of a vector are channels.
//
// It uses no names of the standard library, so that it compiles in a second.
#include <stdint.h>

namespace {

template <typename Number> struct Lanes {
    static constexpr int64_t COUNT = 64 / sizeof(Number);
    typedef Number type __attribute__((vector_size(64), aligned(sizeof(Number)), may_alias));
};

}  // namespace

struct Call {  // as in winograd.py
    int64_t height, width, channels;
    int64_t tile_rows, tile_columns;  // of an image
    int64_t padding;                  // zeros around an input map; 0 for an output map
    int64_t first, count;             // the tiles of this call, counted through the batch
    int64_t image, row, column;       // strides of the map, in elements
    int64_t plane;                    // stride of the planes, in elements
    int64_t threads;
    void *map, *planes;
    const void *bias;  // [channels] or null: added to the pixels of an output map
};

namespace {

struct Tile {
    int64_t batch, y, x;
};  // image, and first pixel in the output map

Tile tile(const Call &call, int64_t number) {
    int64_t row = number / call.tile_columns;
    return {row / call.tile_rows, 2 * (row % call.tile_rows), 2 * (number % call.tile_columns)};
}

// B^T d B of each 4x4 window d of the map, windows two pixels apart
template <typename Number> void windows(const Call &call) {
    typedef typename Lanes<Number>::type Vector;
    const Number *map = (const Number *)call.map;
    Number *planes = (Number *)call.planes;
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (int64_t n = 0; n < call.count; n++) {
        Tile at = tile(call, call.first + n);
        const Number *pixel[16];
        for (int64_t i = 0; i < 4; i++)
            for (int64_t j = 0; j < 4; j++) {
                int64_t y = at.y + i - call.padding, x = at.x + j - call.padding;
                bool inside = y >= 0 && y < call.height && x >= 0 && x < call.width;
                pixel[4 * i + j] = inside ? map + at.batch * call.image + y * call.row + x * call.column : 0;
            }
        Number *to = planes + n * call.channels;
        for (int64_t c = 0; c < call.channels; c += Lanes<Number>::COUNT) {
            Vector d[16], e[16];
            for (int p = 0; p < 16; p++) d[p] = pixel[p] ? *(const Vector *)(pixel[p] + c) : Vector{};
            for (int j = 0; j < 4; j++) {
                e[j] = d[j] - d[8 + j];
                e[4 + j] = d[4 + j] + d[8 + j];
                e[8 + j] = d[8 + j] - d[4 + j];
                e[12 + j] = d[4 + j] - d[12 + j];
            }
            for (int i = 0; i < 16; i += 4) {
                *(Vector *)(to + i * call.plane + c) = e[i] - e[i + 2];
                *(Vector *)(to + (i + 1) * call.plane + c) = e[i + 1] + e[i + 2];
                *(Vector *)(to + (i + 2) * call.plane + c) = e[i + 2] - e[i + 1];
                *(Vector *)(to + (i + 3) * call.plane + c) = e[i + 1] - e[i + 3];
            }
        }
    }
}

// the 2x2 pixels A^T m A of each tile m, written to the map
template <typename Number> void pixels(const Call &call) {
    typedef typename Lanes<Number>::type Vector;
    Number *map = (Number *)call.map;
    const Number *planes = (const Number *)call.planes, *bias = (const Number *)call.bias;
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (int64_t n = 0; n < call.count; n++) {
        Tile at = tile(call, call.first + n);
        bool right = at.x + 1 < call.width, below = at.y + 1 < call.height;
        const Number *from = planes + n * call.channels;
        Number *to = map + at.batch * call.image + at.y * call.row + at.x * call.column;
        for (int64_t c = 0; c < call.channels; c += Lanes<Number>::COUNT) {
            Vector m[16], e[8], b = bias ? *(const Vector *)(bias + c) : Vector{};
            for (int p = 0; p < 16; p++) m[p] = *(const Vector *)(from + p * call.plane + c);
            for (int j = 0; j < 4; j++) {
                e[j] = m[j] + m[4 + j] + m[8 + j];
                e[4 + j] = m[4 + j] - m[8 + j] - m[12 + j];
            }
            *(Vector *)(to + c) = e[0] + e[1] + e[2] + b;
            if (right) *(Vector *)(to + call.column + c) = e[1] - e[2] - e[3] + b;
            if (below) *(Vector *)(to + call.row + c) = e[4] + e[5] + e[6] + b;
            if (right && below) *(Vector *)(to + call.row + call.column + c) = e[5] - e[6] - e[7] + b;
        }
    }
}

// A g A^T of each tile's 2x2 pixels g: the adjoint of `pixels`, for the gradient of the weight
template <typename Number> void tiles(const Call &call) {
    typedef typename Lanes<Number>::type Vector;
    const Number *map = (const Number *)call.map;
    Number *planes = (Number *)call.planes;
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (int64_t n = 0; n < call.count; n++) {
        Tile at = tile(call, call.first + n);
        bool right = at.x + 1 < call.width, below = at.y + 1 < call.height;
        const Number *from = map + at.batch * call.image + at.y * call.row + at.x * call.column;
        Number *to = planes + n * call.channels;
        for (int64_t c = 0; c < call.channels; c += Lanes<Number>::COUNT) {
            Vector g[4], e[8];
            g[0] = *(const Vector *)(from + c);
            g[1] = right ? *(const Vector *)(from + call.column + c) : Vector{};
            g[2] = below ? *(const Vector *)(from + call.row + c) : Vector{};
            g[3] = right && below ? *(const Vector *)(from + call.row + call.column + c) : Vector{};
            for (int j = 0; j < 2; j++) {
                e[j] = g[j];
                e[2 + j] = g[j] + g[2 + j];
                e[4 + j] = g[j] - g[2 + j];
                e[6 + j] = -g[2 + j];
            }
            for (int i = 0; i < 4; i++) {
                *(Vector *)(to + 4 * i * call.plane + c) = e[2 * i];
                *(Vector *)(to + (4 * i + 1) * call.plane + c) = e[2 * i] + e[2 * i + 1];
                *(Vector *)(to + (4 * i + 2) * call.plane + c) = e[2 * i] - e[2 * i + 1];
                *(Vector *)(to + (4 * i + 3) * call.plane + c) = -e[2 * i + 1];
            }
        }
    }
}

}  // namespace

extern "C" {
void windows_float32(const Call *call) { windows<float>(*call); }
void windows_float64(const Call *call) { windows<double>(*call); }
void pixels_float32(const Call *call) { pixels<float>(*call); }
void pixels_float64(const Call *call) { pixels<double>(*call); }
void tiles_float32(const Call *call) { tiles<float>(*call); }
void tiles_float64(const Call *call) { tiles<double>(*call); }
}

// Norms, rotations, activations and dropout on rows of bfloat16, forward and backward.
//
// Inside a row everything is float32; what is stored is rounded once. Rows are done in chunks of a
// fixed size whatever the number of threads, so that sums over rows do not depend on it.
#pragma once

#include "vector.h"

namespace {

constexpr long CHUNK = 32;  // rows of one task

inline Floats first(Floats x, int m) { return (Ints)counting() < m ? x : Floats{}; }

// ---- norms ---------------------------------------------------------------------------------------

// x, y, dx, dy (rows, n) in bfloat16; weight, bias (n) in float32; statistics (rows) in float32.
struct Norm {
    long rows, n;
    float eps;
    const bf16* x;
    const float *weight, *bias;  // bias null: RMSNorm, which does not centre
    bf16* y;
    float *mean, *scale;         // scale is 1 / standard deviation
    const bf16* dy;
    bf16* dx;
    float *d_weight, *d_bias;    // (chunks, n), to be summed over the chunks
};

inline void norm_forward(const Norm& a, long chunk) {
    const long end = (chunk + 1) * CHUNK < a.rows ? (chunk + 1) * CHUNK : a.rows;
    for (long r = chunk * CHUNK; r < end; r++) {
        const bf16* x = a.x + r * a.n;
        float mean = 0;
        if (a.bias) {
            Floats total = {};
            across(a.n, [&](long i, int m) { total += load_bf16(x + i, m); });
            mean = a.mean[r] = sum(total) / a.n;
        }
        Floats squares = {};
        across(a.n, [&](long i, int m) {
            Floats v = first(load_bf16(x + i, m) - mean, m);
            squares += v * v;
        });
        const float scale = a.scale[r] = 1 / __builtin_sqrtf(sum(squares) / a.n + a.eps);
        across(a.n, [&](long i, int m) {
            Floats v = (load_bf16(x + i, m) - mean) * scale * load_floats(a.weight + i, m);
            if (a.bias) v += load_floats(a.bias + i, m);
            store_bf16(a.y + r * a.n + i, v, m);
        });
    }
}

inline void norm_backward(const Norm& a, long chunk) {
    const long end = (chunk + 1) * CHUNK < a.rows ? (chunk + 1) * CHUNK : a.rows;
    float* d_weight = a.d_weight + chunk * a.n;
    float* d_bias = a.bias ? a.d_bias + chunk * a.n : nullptr;
    for (long r = chunk * CHUNK; r < end; r++) {
        const bf16 *x = a.x + r * a.n, *dy = a.dy + r * a.n;
        const float mean = a.bias ? a.mean[r] : 0, scale = a.scale[r];
        Floats along = {}, total = {};
        across(a.n, [&](long i, int m) {
            Floats unit = (load_bf16(x + i, m) - mean) * scale, d = load_bf16(dy + i, m);
            add_to(d_weight + i, d * unit, m);
            if (d_bias) add_to(d_bias + i, d, m);
            d *= load_floats(a.weight + i, m);
            along += d * unit;
            total += d;
        });
        const float slope = sum(along) / a.n, offset = a.bias ? sum(total) / a.n : 0;
        across(a.n, [&](long i, int m) {
            Floats unit = (load_bf16(x + i, m) - mean) * scale;
            Floats d = load_bf16(dy + i, m) * load_floats(a.weight + i, m);
            store_bf16(a.dx + r * a.n + i, (d - offset - unit * slope) * scale, m);
        });
    }
}

// ---- heads: RMSNorm of each, then the rotation by its position -------------------------------------

// x, y (rows, heads, D) in bfloat16; cos, sin (positions, D / 2) in float32: row r stands at r % positions.
struct Heads {
    long rows, heads, D, positions;
    float eps;
    const bf16* x;
    const float *weight;  // (D), or null: no norm
    const float *cos, *sin;
    bf16* y;
    float* scale;  // (rows, heads)
    const bf16* dy;
    bf16* dx;
    float* d_weight;  // (chunks, D)
};

inline void heads_forward(const Heads& a, long chunk) {
    const long end = (chunk + 1) * CHUNK < a.rows ? (chunk + 1) * CHUNK : a.rows, half = a.D / 2;
    for (long at = chunk * CHUNK * a.heads; at < end * a.heads; at++) {  // one head of one row
        const bf16 *front = a.x + at * a.D, *back = front + half;
        const long turn = at / a.heads % a.positions * half;
        float scale = 1;
        if (a.weight) {
            Floats squares = {};
            across(a.D, [&](long i, int m) {
                Floats v = load_bf16(front + i, m);
                squares += v * v;
            });
            scale = a.scale[at] = 1 / __builtin_sqrtf(sum(squares) / a.D + a.eps);
        }
        across(half, [&](long i, int m) {
            Floats x0 = load_bf16(front + i, m) * scale, x1 = load_bf16(back + i, m) * scale;
            if (a.weight) {
                x0 *= load_floats(a.weight + i, m);
                x1 *= load_floats(a.weight + half + i, m);
            }
            Floats c = load_floats(a.cos + turn + i, m), s = load_floats(a.sin + turn + i, m);
            store_bf16(a.y + at * a.D + i, x0 * c - x1 * s, m);
            store_bf16(a.y + at * a.D + half + i, x1 * c + x0 * s, m);
        });
    }
}

inline void heads_backward(const Heads& a, long chunk) {
    const long end = (chunk + 1) * CHUNK < a.rows ? (chunk + 1) * CHUNK : a.rows, half = a.D / 2;
    float* d_weight = a.weight ? a.d_weight + chunk * a.D : nullptr;
    for (long at = chunk * CHUNK * a.heads; at < end * a.heads; at++) {
        const bf16 *front = a.x + at * a.D, *back = front + half;
        const bf16 *d_front = a.dy + at * a.D, *d_back = d_front + half;
        const long turn = at / a.heads % a.positions * half;
        // f(i, m, d0, d1) with the gradient turned back, of both halves
        auto each_pair = [&](auto f) __attribute__((always_inline)) {
            across(half, [&](long i, int m) {
                Floats c = load_floats(a.cos + turn + i, m), s = load_floats(a.sin + turn + i, m);
                Floats d0 = load_bf16(d_front + i, m), d1 = load_bf16(d_back + i, m);
                f(i, m, d0 * c + d1 * s, d1 * c - d0 * s);
            });
        };
        float scale = 1, slope = 0;
        if (a.weight) {
            scale = a.scale[at];
            Floats along = {};
            each_pair([&](long i, int m, Floats d0, Floats d1) {
                Floats u0 = load_bf16(front + i, m) * scale, u1 = load_bf16(back + i, m) * scale;
                add_to(d_weight + i, d0 * u0, m);
                add_to(d_weight + half + i, d1 * u1, m);
                along += d0 * u0 * load_floats(a.weight + i, m);
                along += d1 * u1 * load_floats(a.weight + half + i, m);
            });
            slope = sum(along) / a.D;
        }
        each_pair([&](long i, int m, Floats d0, Floats d1) {
            if (a.weight) {
                d0 *= load_floats(a.weight + i, m);
                d1 *= load_floats(a.weight + half + i, m);
                d0 = (d0 - load_bf16(front + i, m) * scale * slope) * scale;
                d1 = (d1 - load_bf16(back + i, m) * scale * slope) * scale;
            }
            store_bf16(a.dx + at * a.D + i, d0, m);
            store_bf16(a.dx + at * a.D + half + i, d1, m);
        });
    }
}

// ---- activations and dropout -----------------------------------------------------------------------

constexpr long PIECE = 16384;  // numbers of one task

// x, up, y and their gradients: n numbers of bfloat16.
struct Pointwise {
    long n;
    const bf16 *x, *up;
    bf16* y;
    const bf16* dy;
    bf16 *dx, *d_up;
    uint32_t seed;
    float drop;
};

template <class F>
inline void each(const Pointwise& a, long piece, F f) {
    const long start = piece * PIECE, n = a.n - start < PIECE ? a.n - start : PIECE;
    across(n, [&](long i, int m) { f(start + i, m); });
}

constexpr float GELU_SLOPE = 1.5957691216057308f;  // 2 sqrt(2 / pi)
constexpr float GELU_CUBE = 0.044715f;

// x / 2 (1 + tanh(sqrt(2 / pi) (x + .044715 x^3))), which is x sigmoid of twice the tanh's argument.
inline void gelu_forward(const Pointwise& a, long piece) {
    each(a, piece, [&](long i, int m) {
        Floats x = load_bf16(a.x + i, m);
        store_bf16(a.y + i, x * sigmoid(GELU_SLOPE * x * (1 + GELU_CUBE * x * x)), m);
    });
}

inline void gelu_backward(const Pointwise& a, long piece) {
    each(a, piece, [&](long i, int m) {
        Floats x = load_bf16(a.x + i, m);
        Floats s = sigmoid(GELU_SLOPE * x * (1 + GELU_CUBE * x * x));
        Floats slope = s + x * s * (1 - s) * GELU_SLOPE * (1 + 3 * GELU_CUBE * x * x);
        store_bf16(a.dx + i, load_bf16(a.dy + i, m) * slope, m);
    });
}

// silu(x) * up
inline void swiglu_forward(const Pointwise& a, long piece) {
    each(a, piece, [&](long i, int m) {
        Floats x = load_bf16(a.x + i, m);
        store_bf16(a.y + i, x * sigmoid(x) * load_bf16(a.up + i, m), m);
    });
}

inline void swiglu_backward(const Pointwise& a, long piece) {
    each(a, piece, [&](long i, int m) {
        Floats x = load_bf16(a.x + i, m), up = load_bf16(a.up + i, m), dy = load_bf16(a.dy + i, m);
        Floats s = sigmoid(x);
        store_bf16(a.dx + i, dy * up * s * (1 + x * (1 - s)), m);
        store_bf16(a.d_up + i, dy * x * s, m);
    });
}

// x with a share `drop` of it zero and the rest scaled up; the backward pass is the same on dy.
inline void dropout(const Pointwise& a, long piece) {
    const double share = double(a.drop) * 4294967296.0;
    const uint32_t limit = share >= 4294967295.0 ? 4294967295u : uint32_t(share);
    const uint32_t base = mix(a.seed + uint32_t(uint64_t(piece) * 0x9e3779b9u));
    const float kept = 1 / (1 - a.drop);
    each(a, piece, [&](long i, int m) {
        Words draw = mix(counting() + (uint32_t(i) + base));
        Floats x = load_bf16(a.x + i, m);
        store_bf16(a.y + i, draw >= limit ? x * kept : Floats{}, m);
    });
}

}  // namespace

// Muon: momentum, made orthogonal by Newton-Schulz iterations, evened out by neuron, added.
//
// X becomes a X + (b A + c A A) X with A = X X^T. A and its square are symmetric, so only the blocks
// on and above the diagonal are multiplied: two thirds of the work that the formula asks for.
#pragma once

#include "arena.h"
#include "gemm.h"

namespace {

constexpr long PART = 64;  // columns that are multiplied at a time

// n matrices in float32: weight, gradient and momentum (rows, columns), squares one for each neuron.
struct Muon {
    long n, steps;
    const long *rows, *columns;
    float** weight;
    const float** gradient;
    float **momentum, **squares;  // squares null: not evened out
    const float* coefficients;    // (steps, 3): a, b, c
    float lr, keep, weight_decay, beta2;
};

// F = A B where that is known to be symmetric; A (r, 2 pairs) row by row, B (pairs, r) words of pairs.
inline void symmetric_product(long r, long pairs, const bf16* A, const uint32_t* B, float* F) {
    for (long n = 0; n < r; n += PART) {
        const long width = r - n < PART ? r - n : PART;
        gemm<false>(n + width, width, pairs, A, 2 * pairs, B + n, r, F + n, r);
    }
    for (long n = PART; n < r; n += PART)
        for (long m = 0; m < n; m += PART)
            transpose((uint32_t*)F + m * r + n, r, (uint32_t*)F + n * r + m, r, PART,
                      r - n < PART ? r - n : PART);
}

// to = x from + y F, rounded to bfloat16; `to` may be `from`, which is not read when x is 0.
inline void combine(long n, float x, const bf16* from, float y, const float* F, bf16* to) {
    for (long i = 0; i < n; i += W) {
        Floats v = load<Floats>(F + i) * y;
        store_bf16(to + i, x == 0 ? v : v + load_bf16(from + i) * x);
    }
}

// Bring in the gradient; the direction, one step ahead (Nesterov), turned so that it is wide, over its norm.
inline void load_direction(const Muon& a, long task, bool tall, long cp, float* scratch, bf16* X) {
    const long rows = a.rows[task], columns = a.columns[task], size = rows * columns;
    const long r = tall ? columns : rows, c = tall ? rows : columns;
    const float* g = a.gradient[task];
    float *m = a.momentum[task], *ahead = scratch, *turned = scratch + round_up(size, 16);
    float norm = 0;
    Floats squares = {};
    across(size, [&](long i, int k) {
        Floats gradient = load_floats(g + i, k), mean = load_floats(m + i, k);
        mean += (gradient - mean) * (1 - a.keep);
        Floats direction = gradient + (mean - gradient) * a.keep;
        memcpy(m + i, &mean, k * sizeof(float));
        memcpy(ahead + i, &direction, k * sizeof(float));
        squares += direction * direction;
    });
    norm = sum(squares);
    const float scale = 1 / (__builtin_sqrtf(norm) + 1e-7f);
    if (tall) transpose((const uint32_t*)ahead, columns, (uint32_t*)turned, c, rows, columns);
    const float* wide = tall ? turned : ahead;
    for (long k = 0; k < r; k++)
        across(c, [&](long j, int n) {
            store_bf16(X + k * cp + j, load_floats(wide + k * c + j, n) * scale, n);
        });
}

struct Products {
    bf16* A;
    uint32_t *X_words, *A_words;
    float* F;
};

inline void orthogonalise(const Muon& a, long rp, long cp, bf16* X, const Products& w) {
    for (long step = 0; step < a.steps; step++) {
        const float* k = a.coefficients + 3 * step;
        transpose((const uint32_t*)X, cp / 2, w.X_words, rp, rp, cp / 2);
        symmetric_product(rp, cp / 2, X, w.X_words, w.F);
        combine(rp * rp, 0, w.A, 1, w.F, w.A);
        pair_rows(w.A, rp, w.A_words, rp, rp, rp);
        symmetric_product(rp, rp / 2, w.A, w.A_words, w.F);
        combine(rp * rp, k[1], w.A, k[2], w.F, w.A);
        pair_rows(X, cp, w.X_words, cp, rp, cp);
        gemm<false>(rp, cp, rp / 2, w.A, rp, w.X_words, cp, w.F, cp);
        combine(rp * cp, k[0], X, 1, w.F, X);
    }
}

// Each neuron's update over the root of its mean square so far, as long together as before: factors
// for the neurons, which are the rows of X, or its columns.
inline void even_out(float beta2, const bf16* X, long r, long c, long cp, bool by_row, float* squares,
                     float* factors) {
    const long neurons = by_row ? r : c;
    float* fresh = factors + round_up(neurons, 16);
    for (long i = 0; i < neurons; i++) fresh[i] = 0;
    for (long k = 0; k < r; k++)
        across(c, [&](long j, int n) {
            Floats x = load_bf16(X + k * cp + j, n);
            if (by_row) fresh[k] += sum(x * x);
            else add_to(fresh + j, x * x, n);
        });
    float before = 0, after = 0;
    for (long i = 0; i < neurons; i++) {
        squares[i] += (fresh[i] / (by_row ? c : r) - squares[i]) * (1 - beta2);
        const float root = __builtin_sqrtf(squares[i]);
        factors[i] = 1 / (root > 1e-8f ? root : 1e-8f);
        before += fresh[i];
        after += fresh[i] * factors[i] * factors[i];
    }
    after = __builtin_sqrtf(after);
    const float length = __builtin_sqrtf(before) / (after > 1e-8f ? after : 1e-8f);
    for (long i = 0; i < neurons; i++) factors[i] *= length;
}

// weight = weight (1 - lr decay) - lr sqrt(max(1, rows / columns)) X, each neuron times its factor.
inline void take_step(const Muon& a, long task, bool tall, const bf16* X, long cp, bool by_row,
                      const float* factors) {
    const long rows = a.rows[task], columns = a.columns[task];
    const float ratio = float(rows) / float(columns);
    const float step = -a.lr * (ratio > 1 ? __builtin_sqrtf(ratio) : 1), kept = 1 - a.lr * a.weight_decay;
    for (long i = 0; i < rows; i++)
        across(columns, [&](long j, int n) {
            Floats x = {};
            if (tall)
                for (int v = 0; v < n; v++) x[v] = to_float(X[(j + v) * cp + i]);
            else
                x = load_bf16(X + i * cp + j, n);
            if (factors) x *= tall || by_row ? all(factors[i]) : load_floats(factors + j, n);
            float* weight = a.weight[task] + i * columns + j;
            Floats moved = load_floats(weight, n) * kept + x * step;
            memcpy(weight, &moved, n * sizeof(float));
        });
}

// One matrix. False: no memory.
bool muon(const Muon& a, long task) {
    const long rows = a.rows[task], columns = a.columns[task];
    const bool tall = rows > columns, by_row = rows == columns;
    const long r = tall ? columns : rows, c = tall ? rows : columns;
    const long rp = round_up(r, 16), cp = round_up(c, 16);
    Arena arena(2 * rp * cp + 2 * rp * rp + 2 * rp * cp + 2 * rp * rp + 8 * rp * cp + 8 * cp + 16 * 64);
    if (!arena.base) return false;
    bf16* X = arena.take<bf16>(rp * cp);
    Products w;
    w.A = arena.take<bf16>(rp * rp);
    w.X_words = arena.take<uint32_t>(rp * cp / 2);
    w.A_words = arena.take<uint32_t>(rp * rp / 2);
    w.F = arena.take<float>(2 * rp * cp);
    float* factors = arena.take<float>(2 * cp);
    memset(X, 0, 2 * rp * cp);
    load_direction(a, task, tall, cp, w.F, X);
    orthogonalise(a, rp, cp, X, w);
    if (a.squares) even_out(a.beta2, X, r, c, cp, by_row, a.squares[task], factors);
    take_step(a, task, tall, X, cp, by_row, a.squares ? factors : nullptr);
    return true;
}

}  // namespace

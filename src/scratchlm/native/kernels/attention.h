// Causal attention, forward and backward, that never writes the (T, T) weights to memory.
//
// The method is FlashAttention-2's (arXiv:2307.08691): blocks of queries meet blocks of keys, the
// softmax is carried along, and the backward pass computes the weights again. What differs: scores
// are kept transposed, (keys, queries), so that a vector holds one key's scores of W queries. Then
// maximum, sum and scale are vectors too, nothing is ever summed across a vector, and the weights
// leave the softmax in the order in which the next product reads them.
#pragma once

#include "arena.h"
#include "gemm.h"

namespace {

constexpr long BLOCK = 64;           // queries in a block, and keys
constexpr int VECTORS = BLOCK / W;   // in one row of a block
constexpr float LOWEST = -1e30f;     // below every score; -infinity would make NaN of a difference

// Every matrix is (B, T, heads, d_head) in bfloat16, packed; lse is (B, H, T) in float32.
struct Attention {
    long B, T, H, K, D;          // rows, tokens, query heads, key/value heads, d_head (even)
    const bf16 *q, *k, *v;
    const int32_t* segments;     // (B, T) or null: tokens see only tokens of their own number
    bf16* out;
    float* lse;                  // log2 of the sum of 2^(score log2 e)
    uint32_t seed;               // of dropout
    float drop;                  // share of the weights that becomes zero
    // backward
    const bf16* d_out;
    bf16 *dq, *dk, *dv;
};

struct Dropper {
    uint32_t base, limit;
    bool on;
    Dropper(const Attention& a, long b, long h) {
        base = mix(a.seed ^ mix(uint32_t(b * a.H + h) + 0x9e3779b9u));
        double share = double(a.drop) * 4294967296.0;
        limit = share >= 4294967295.0 ? 4294967295u : uint32_t(share);
        on = a.drop > 0;
    }
    // All ones where the weight of (key, W queries from q on) stays.
    Ints keep(long key, long q) const {
        Words at = counting() + (uint32_t(key) * 0x01000193u ^ uint32_t(q)) + base;
        return (Ints)(mix(mix(at) + uint32_t(key)) >= limit);
    }
};

// Where W queries from q on may look at a key.
inline Ints visible(long key, long q, const int32_t* segments, Ints query_segments) {
    Ints see = (Ints)counting() + int32_t(q) >= int32_t(key);
    return segments ? (see & (query_segments == segments[key])) : see;
}

// The segments of a block's queries; those beyond n get a number that no token has.
inline void block_segments(const int32_t* segments, long n, int32_t* to) {
    for (long i = 0; i < BLOCK; i++) to[i] = i < n ? segments[i] : INT32_MIN;
}

// Whether no token of one run has the number of a token of the other.
inline bool disjoint(const int32_t* a, long n, const int32_t* b, long m) {
    int32_t a_low = a[0], a_high = a[0], b_low = b[0], b_high = b[0];
    for (long i = 1; i < n; i++) {
        a_low = a[i] < a_low ? a[i] : a_low;
        a_high = a[i] > a_high ? a[i] : a_high;
    }
    for (long i = 1; i < m; i++) {
        b_low = b[i] < b_low ? b[i] : b_low;
        b_high = b[i] > b_high ? b[i] : b_high;
    }
    return a_high < b_low || b_high < a_low;
}

// Queries of a block as words of pairs along d: (D / 2, BLOCK); queries beyond n are zero.
inline void pack_columns(const bf16* rows, long ld, long n, long D, uint32_t* to) {
    if (n < BLOCK) memset(to, 0, D / 2 * BLOCK * sizeof(uint32_t));
    transpose((const uint32_t*)rows, ld / 2, to, BLOCK, n, D / 2);
}

// A head's keys or values with pairs of tokens along each row: (D, Tp) from (T, D), Tp even.
inline void turn_head(const bf16* rows, long ld, long T, long D, uint32_t* scratch, bf16* to, long Tp) {
    pair_rows(rows, ld, scratch, D, T, D);  // (Tp / 2, D) words
    transpose(scratch, D, (uint32_t*)to, Tp / 2, Tp / 2, D);
}

inline void store_row(const float* from, float scale, long D, bf16* to) {
    long d = 0;
    for (; d + W <= D; d += W) store_bf16(to + d, load<Floats>(from + d) * scale);
    if (d < D) store_bf16(to + d, load_floats(from + d, D - d) * scale, D - d);
}

// (D, BLOCK) floats, each column times its scale -> n rows of bfloat16; scratch holds (BLOCK, D).
inline void store_columns(const float* columns, const float* scale, long n, long D, float* scratch,
                          bf16* rows, long ld) {
    transpose((const uint32_t*)columns, BLOCK, (uint32_t*)scratch, D, D, BLOCK);
    for (long i = 0; i < n; i++) store_row(scratch + i * D, scale[i], D, rows + i * ld);
}

// ---- forward -------------------------------------------------------------------------------------

// Scores of nk keys -> weights in words of pairs; carries maximum and sum, rescales what was added.
inline void softmax_block(const Attention& a, const Dropper& dropper, const float* scores, long k0,
                          long nk, long q0, bool masked, const int32_t* segments,
                          const int32_t* query_segments, float* maximum, float* total,
                          uint32_t* weights, float* out, bool first) {
    const float scale = LOG2E / __builtin_sqrtf(float(a.D));
    for (int v = 0; v < VECTORS; v++) {
        const float* column = scores + v * W;
        Ints own = segments ? load<Ints>(query_segments + v * W) : Ints{};
        Floats old = load<Floats>(maximum + v * W), top = old;
        for (long j = 0; j < nk; j++) {
            Floats s = load<Floats>(column + j * BLOCK) * scale;
            if (masked) s = visible(k0 + j, q0 + v * W, segments, own) ? s : all(LOWEST);
            top = greater(top, s);
        }
        Floats sums = {};
        for (long j = 0; j < nk; j += 2) {
            Words pair = {};
            for (long i = j; i < j + 2 && i < nk; i++) {
                Floats p = exp2(load<Floats>(column + i * BLOCK) * scale - top);
                if (masked) p = visible(k0 + i, q0 + v * W, segments, own) ? p : Floats{};
                sums += p;
                if (dropper.on) p = dropper.keep(k0 + i, q0 + v * W) ? p : Floats{};
                pair |= to_bf16_words(p) << (i > j ? 16 : 0);
            }
            store(weights + j / 2 * BLOCK + v * W, pair);
        }
        Floats fade = exp2(old - top);
        store(total + v * W, load<Floats>(total + v * W) * fade + sums);
        store(maximum + v * W, top);
        if (first) continue;
        for (long d = 0; d < a.D; d++)
            store(out + d * BLOCK + v * W, load<Floats>(out + d * BLOCK + v * W) * fade);
    }
}

// One query block of one head.
inline void forward_block(const Attention& a, long b, long h, long q0, const bf16* v_turned, long Tp,
                          Arena& arena) {
    const long ld_q = a.H * a.D, ld_k = a.K * a.D, kv = h / (a.H / a.K);
    const long n = a.T - q0 < BLOCK ? a.T - q0 : BLOCK;
    const bf16* keys = a.k + b * a.T * ld_k + kv * a.D;
    const int32_t* segments = a.segments ? a.segments + b * a.T : nullptr;
    const Dropper dropper(a, b, h);
    uint32_t* queries = arena.take<uint32_t>(a.D / 2 * BLOCK);
    uint32_t* weights = arena.take<uint32_t>(BLOCK / 2 * BLOCK);
    float* scores = arena.take<float>(BLOCK * BLOCK);
    float* out = arena.take<float>(a.D * BLOCK);
    float maximum[BLOCK], total[BLOCK], scale[BLOCK];
    int32_t query_segments[BLOCK];
    if (segments) block_segments(segments + q0, n, query_segments);
    pack_columns(a.q + (b * a.T + q0) * ld_q + h * a.D, ld_q, n, a.D, queries);
    for (long i = 0; i < BLOCK; i++) maximum[i] = LOWEST, total[i] = 0;
    memset(out, 0, a.D * BLOCK * sizeof(float));
    bool first = true;
    for (long k0 = 0; k0 < q0 + n; k0 += BLOCK) {
        const long nk = a.T - k0 < BLOCK ? a.T - k0 : BLOCK;
        if (segments && disjoint(segments + k0, nk, segments + q0, n)) continue;
        gemm<false>(nk, BLOCK, a.D / 2, keys + k0 * ld_k, ld_k, queries, BLOCK, scores, BLOCK);
        softmax_block(a, dropper, scores, k0, nk, q0, segments || k0 == q0, segments, query_segments,
                      maximum, total, weights, out, first);
        gemm<true>(a.D, BLOCK, (nk + 1) / 2, v_turned + k0, Tp, weights, BLOCK, out, BLOCK);
        first = false;
    }
    float* lse = a.lse + (b * a.H + h) * a.T + q0;
    for (long i = 0; i < n; i++) {
        scale[i] = 1 / (total[i] * (1 - a.drop));
        lse[i] = maximum[i] + __builtin_log2f(total[i]);
    }
    float* scratch = arena.take<float>(BLOCK * a.D);
    store_columns(out, scale, n, a.D, scratch, a.out + (b * a.T + q0) * ld_q + h * a.D, ld_q);
}

// One key/value head of one row of the batch, with the query heads that share it. False: no memory.
bool attention_forward(const Attention& a, long task) {
    const long b = task / a.K, kv = task % a.K, group = a.H / a.K, Tp = round_up(a.T, 2);
    Arena arena(4 * (a.D * Tp + a.D / 2 * BLOCK + BLOCK / 2 * BLOCK + BLOCK * BLOCK + 2 * a.D * BLOCK) +
                8 * 64);
    if (!arena.base) return false;
    bf16* v_turned = arena.take<bf16>(a.D * Tp);
    uint32_t* scratch = arena.take<uint32_t>(a.D * Tp / 2);
    const long ld_v = a.K * a.D;
    turn_head(a.v + b * a.T * ld_v + kv * a.D, ld_v, a.T, a.D, scratch, v_turned, Tp);
    char* rest = arena.next;
    for (long h = kv * group; h < (kv + 1) * group; h++)
        for (long q0 = 0; q0 < a.T; q0 += BLOCK) {
            arena.next = rest;
            forward_block(a, b, h, q0, v_turned, Tp, arena);
        }
    return true;
}

// ---- backward ------------------------------------------------------------------------------------

// What the backward pass of one head holds; matrices of pairs are words.
struct Backward {
    bf16* k_turned;                       // (D, Tp)
    float *dk, *dv;                       // (T, Dw), Dw = D up to whole vectors
    uint32_t *q_columns, *d_out_columns;  // (D / 2, BLOCK)
    uint32_t *q_rows, *d_out_rows;        // (BLOCK / 2, Dw)
    float *scores, *d_weights;            // (BLOCK keys, BLOCK queries)
    bf16 *weights, *d_scores;             // the same in bfloat16
    uint32_t* d_score_pairs;              // (BLOCK / 2, BLOCK)
    float *dq, *scratch;                  // (D, BLOCK)
};

// lse and the sum of out * d_out of each query; beyond n such that every weight is zero.
inline void block_sums(const Attention& a, long b, long h, long q0, long n, float* lse, float* delta) {
    const long ld = a.H * a.D, at = (b * a.T + q0) * ld + h * a.D;
    for (long i = 0; i < BLOCK; i++) {
        lse[i] = i < n ? a.lse[(b * a.H + h) * a.T + q0 + i] : -LOWEST;
        Floats total = {};
        for (long d = 0; d < a.D && i < n; d += W) {
            const int left = a.D - d < W ? a.D - d : W;
            total += load_bf16(a.out + at + i * ld + d, left) * load_bf16(a.d_out + at + i * ld + d, left);
        }
        delta[i] = sum(total);
    }
}

// Scores and the weights' gradients of a block -> weights and the scores' gradients in bfloat16.
inline void d_softmax_block(const Attention& a, const Dropper& dropper, const Backward& w, long k0,
                            long nk, long q0, bool masked, const int32_t* segments,
                            const int32_t* query_segments, const float* lse, const float* delta) {
    const float scale = LOG2E / __builtin_sqrtf(float(a.D)), kept = 1 / (1 - a.drop);
    for (int v = 0; v < VECTORS; v++) {
        Ints own = segments ? load<Ints>(query_segments + v * W) : Ints{};
        Floats minus = load<Floats>(lse + v * W), mean = load<Floats>(delta + v * W);
        for (long j = 0; j < nk; j += 2) {
            Words pair = {};
            for (long i = j; i < j + 2 && i < nk; i++) {
                const long at = i * BLOCK + v * W;
                Floats p = exp2(load<Floats>(w.scores + at) * scale - minus);
                if (masked) p = visible(k0 + i, q0 + v * W, segments, own) ? p : Floats{};
                Floats dp = load<Floats>(w.d_weights + at), dropped = p;
                if (dropper.on) {
                    Ints keep = dropper.keep(k0 + i, q0 + v * W);
                    dp = keep ? dp * kept : Floats{};
                    dropped = keep ? p * kept : Floats{};
                }
                Halves ds = to_halves(p * (dp - mean));
                store_bf16(w.weights + at, dropped);
                store(w.d_scores + at, ds);
                pair |= __builtin_convertvector(ds, Words) << (i > j ? 16 : 0);
            }
            store(w.d_score_pairs + j / 2 * BLOCK + v * W, pair);
        }
    }
}

inline void backward_block(const Attention& a, long b, long h, long q0, const Backward& w) {
    const long ld_q = a.H * a.D, ld_k = a.K * a.D, kv = h / (a.H / a.K);
    const long n = a.T - q0 < BLOCK ? a.T - q0 : BLOCK;
    const long Tp = round_up(a.T, 2), Dw = round_up(a.D, W);
    const long at = (b * a.T + q0) * ld_q + h * a.D;
    const int32_t* segments = a.segments ? a.segments + b * a.T : nullptr;
    const Dropper dropper(a, b, h);
    const float scale = 1 / __builtin_sqrtf(float(a.D));
    float lse[BLOCK], delta[BLOCK], scales[BLOCK];
    int32_t query_segments[BLOCK];
    if (segments) block_segments(segments + q0, n, query_segments);
    for (long i = 0; i < BLOCK; i++) scales[i] = scale;
    pack_columns(a.q + at, ld_q, n, a.D, w.q_columns);
    pack_columns(a.d_out + at, ld_q, n, a.D, w.d_out_columns);
    memset(w.q_rows, 0, BLOCK / 2 * Dw * sizeof(uint32_t));
    memset(w.d_out_rows, 0, BLOCK / 2 * Dw * sizeof(uint32_t));
    pair_rows(a.q + at, ld_q, w.q_rows, Dw, n, a.D);
    pair_rows(a.d_out + at, ld_q, w.d_out_rows, Dw, n, a.D);
    block_sums(a, b, h, q0, n, lse, delta);
    memset(w.dq, 0, a.D * BLOCK * sizeof(float));
    for (long k0 = 0; k0 < q0 + n; k0 += BLOCK) {
        const long nk = a.T - k0 < BLOCK ? a.T - k0 : BLOCK;
        if (segments && disjoint(segments + k0, nk, segments + q0, n)) continue;
        const long from = (b * a.T + k0) * ld_k + kv * a.D;
        gemm<false>(nk, BLOCK, a.D / 2, a.k + from, ld_k, w.q_columns, BLOCK, w.scores, BLOCK);
        gemm<false>(nk, BLOCK, a.D / 2, a.v + from, ld_k, w.d_out_columns, BLOCK, w.d_weights, BLOCK);
        d_softmax_block(a, dropper, w, k0, nk, q0, segments || k0 == q0, segments, query_segments, lse,
                        delta);
        gemm<true>(nk, Dw, BLOCK / 2, w.weights, BLOCK, w.d_out_rows, Dw, w.dv + k0 * Dw, Dw);
        gemm<true>(nk, Dw, BLOCK / 2, w.d_scores, BLOCK, w.q_rows, Dw, w.dk + k0 * Dw, Dw);
        gemm<true>(a.D, BLOCK, (nk + 1) / 2, w.k_turned + k0, Tp, w.d_score_pairs, BLOCK, w.dq, BLOCK);
    }
    store_columns(w.dq, scales, n, a.D, w.scratch, a.dq + at, ld_q);
}

// One key/value head of one row of the batch, with the query heads that share it. False: no memory.
bool attention_backward(const Attention& a, long task) {
    const long b = task / a.K, kv = task % a.K, group = a.H / a.K, ld_k = a.K * a.D;
    const long Tp = round_up(a.T, 2), Dw = round_up(a.D, W);
    Arena arena(4 * (a.D * Tp + 2 * a.T * Dw + a.D * BLOCK + BLOCK * Dw + 4 * BLOCK * BLOCK +
                     2 * a.D * BLOCK) + 16 * 64);
    if (!arena.base) return false;
    Backward w;
    w.k_turned = arena.take<bf16>(a.D * Tp);
    uint32_t* scratch = arena.take<uint32_t>(a.D * Tp / 2);
    w.dk = arena.take<float>(a.T * Dw);
    w.dv = arena.take<float>(a.T * Dw);
    w.q_columns = arena.take<uint32_t>(a.D / 2 * BLOCK);
    w.d_out_columns = arena.take<uint32_t>(a.D / 2 * BLOCK);
    w.q_rows = arena.take<uint32_t>(BLOCK / 2 * Dw);
    w.d_out_rows = arena.take<uint32_t>(BLOCK / 2 * Dw);
    w.scores = arena.take<float>(BLOCK * BLOCK);
    w.d_weights = arena.take<float>(BLOCK * BLOCK);
    w.weights = arena.take<bf16>(BLOCK * BLOCK);
    w.d_scores = arena.take<bf16>(BLOCK * BLOCK);
    w.d_score_pairs = arena.take<uint32_t>(BLOCK / 2 * BLOCK);
    w.dq = arena.take<float>(a.D * BLOCK);
    w.scratch = arena.take<float>(a.D * BLOCK);
    const long at = b * a.T * ld_k + kv * a.D;
    turn_head(a.k + at, ld_k, a.T, a.D, scratch, w.k_turned, Tp);
    memset(w.dk, 0, 2 * round_up(a.T * Dw * sizeof(float), 64));  // dv lies behind it
    for (long h = kv * group; h < (kv + 1) * group; h++)
        for (long q0 = 0; q0 < a.T; q0 += BLOCK) backward_block(a, b, h, q0, w);
    const float scale = 1 / __builtin_sqrtf(float(a.D));
    for (long t = 0; t < a.T; t++) {
        store_row(w.dk + t * Dw, scale, a.D, a.dk + at + t * ld_k);
        store_row(w.dv + t * Dw, 1, a.D, a.dv + at + t * ld_k);
    }
    return true;
}

}  // namespace

// Softmax cross-entropy whose gradient takes the place of the logits.
#pragma once

#include "vector.h"

namespace {

// logits (rows, V) in bfloat16, `ld` apart; targets (rows) in [0, V), or below 0 for a row without loss.
struct CrossEntropy {
    long rows, V, ld;
    bf16* logits;
    const int64_t* targets;
    float* nats;  // (rows)
};

inline void cross_entropy(const CrossEntropy& a, long row) {
    bf16* z = a.logits + row * a.ld;
    const long whole = a.V / W * W, left = a.V - whole, target = a.targets[row];
    if (target < 0) {
        a.nats[row] = 0;
        memset(z, 0, a.V * sizeof(bf16));
        return;
    }
    const Ints inside = (Ints)counting() < int32_t(left);
    const Floats rest = inside ? load_bf16(z + whole, left) * LOG2E : all(-1e30f);
    Floats tops = rest;
    for (long i = 0; i < whole; i += W) tops = greater(tops, load_bf16(z + i) * LOG2E);
    float top = tops[0];
    for (int i = 1; i < W; i++) top = tops[i] > top ? tops[i] : top;
    Floats sums = exp2(rest - top);
    for (long i = 0; i < whole; i += W) sums += exp2(load_bf16(z + i) * LOG2E - top);
    const float total = sum(sums);
    a.nats[row] = (top + __builtin_log2f(total)) / LOG2E - to_float(z[target]);
    const float share = 1 / total;
    const float p = exp2(all(to_float(z[target]) * LOG2E - top))[0] * share;
    for (long i = 0; i < whole; i += W)
        store_bf16(z + i, exp2(load_bf16(z + i) * LOG2E - top) * share);
    if (left) store_bf16(z + whole, exp2(rest - top) * share, int(left));
    z[target] = to_halves(all(p - 1))[0];
}

}  // namespace

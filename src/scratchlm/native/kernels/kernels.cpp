// All kernels for one instruction set: compiled several times, each time with another SUFFIX.

#include "attention.h"
#include "bpe.h"
#include "loss.h"
#include "muon.h"
#include "pointwise.h"

#define JOIN2(name, suffix) scratchlm_##name##_##suffix
#define JOIN(name, suffix) JOIN2(name, suffix)
#define EXPORT(name) extern "C" __attribute__((visibility("default"))) int JOIN(name, SUFFIX)

extern "C" void scratchlm_parallel(long tasks, int threads, void (*run)(void*, long), void* data);

namespace {

// Run f(0) ... f(tasks - 1) on `threads` threads; 0, or 1 if a task said that memory is short.
template <class F>
int parallel(long tasks, int threads, F f) {
    struct Job {
        F f;
        int failed;
    } job{f, 0};
    scratchlm_parallel(
        tasks, threads,
        [](void* data, long task) {
            Job* job = (Job*)data;
            if (!job->f(task)) __atomic_store_n(&job->failed, 1, __ATOMIC_RELAXED);
        },
        &job);
    return job.failed;
}

inline long chunks(long n, long size) { return (n + size - 1) / size; }

}  // namespace

EXPORT(attention_forward)(const Attention* a, int threads) {
    return parallel(a->B * a->K, threads, [=](long task) { return attention_forward(*a, task); });
}

EXPORT(attention_backward)(const Attention* a, int threads) {
    return parallel(a->B * a->K, threads, [=](long task) { return attention_backward(*a, task); });
}

EXPORT(muon)(const Muon* a, int threads) {
    return parallel(a->n, threads, [=](long task) { return muon(*a, task); });
}

EXPORT(cross_entropy)(const CrossEntropy* a, int threads) {
    constexpr long ROWS = 8;
    return parallel(chunks(a->rows, ROWS), threads, [=](long task) {
        for (long r = task * ROWS; r < a->rows && r < (task + 1) * ROWS; r++) cross_entropy(*a, r);
        return true;
    });
}

#define ROWWISE(name, Args, size, n)                                          \
    EXPORT(name)(const Args* a, int threads) {                                \
        return parallel(chunks(a->n, size), threads, [=](long task) {         \
            name(*a, task);                                                   \
            return true;                                                      \
        });                                                                   \
    }

ROWWISE(norm_forward, Norm, CHUNK, rows)
ROWWISE(norm_backward, Norm, CHUNK, rows)
ROWWISE(heads_forward, Heads, CHUNK, rows)
ROWWISE(heads_backward, Heads, CHUNK, rows)
ROWWISE(gelu_forward, Pointwise, PIECE, n)
ROWWISE(gelu_backward, Pointwise, PIECE, n)
ROWWISE(swiglu_forward, Pointwise, PIECE, n)
ROWWISE(swiglu_backward, Pointwise, PIECE, n)
ROWWISE(dropout, Pointwise, PIECE, n)

EXPORT(bpe_index)(const Bpe* a, int) {
    Merger(*a).index();
    return 0;
}

EXPORT(bpe_encode)(const Bpe* a, int) { return !BpeEncoder(*a).run(); }

// Memory of one task, in pieces that begin at a cache line.
#pragma once

#include <stdlib.h>

#include "vector.h"

namespace {

inline long round_up(long n, long to) { return (n + to - 1) / to * to; }

struct Arena {
    char *base, *next;
    explicit Arena(long bytes) {
        base = (char*)malloc(bytes + 64);
        next = base ? base + (64 - (uintptr_t)base % 64) % 64 : nullptr;
    }
    Arena(const Arena&) = delete;
    ~Arena() { free(base); }
    template <class X>
    X* take(long n) {
        X* here = (X*)next;
        next += round_up(n * sizeof(X), 64);
        return here;
    }
};

}  // namespace

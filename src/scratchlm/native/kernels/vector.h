// Short vectors of floats on whatever the processor has, by the vector extension of GCC and Clang.
//
// This file is compiled once for each instruction set (see ../build.py), always inside an unnamed
// namespace, so that code for one processor is never linked into another's.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int W = 16;  // floats in one vector
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef uint16_t bf16;  // the upper half of a float
typedef float Floats __attribute__((vector_size(W * 4)));
typedef int32_t Ints __attribute__((vector_size(W * 4)));
typedef uint32_t Words __attribute__((vector_size(W * 4)));
typedef bf16 Halves __attribute__((vector_size(W * 2)));

template <class V>
inline V load(const void* from) {
    V v;
    memcpy(&v, from, sizeof v);
    return v;
}

template <class V>
inline void store(void* to, V v) {
    memcpy(to, &v, sizeof v);
}

inline Floats all(float x) { return x - Floats{}; }
inline Words all(uint32_t x) { return x - Words{}; }

inline Floats lesser(Floats a, Floats b) { return b < a ? b : a; }    // a NaN in a stays
inline Floats greater(Floats a, Floats b) { return a < b ? b : a; }  // a NaN in a stays

inline float sum(Floats v) {
    float total = 0;
    for (int i = 0; i < W; i++) total += v[i];
    return total;
}

inline Floats to_floats(Halves h) { return (Floats)(__builtin_convertvector(h, Words) << 16); }

// The nearest bfloat16, ties to even; a NaN stays a NaN. In the low half of each word.
inline Words to_bf16_words(Floats x) {
#if defined(__AVX512BF16__)
    return (Words)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    Words bits = (Words)x;
    Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return x == x ? rounded : all(uint32_t(0x7fc0));
#endif
}

inline Halves to_halves(Floats x) {
#if defined(__AVX512BF16__)
    return (Halves)_mm512_cvtneps_pbh((__m512)x);
#else
    return __builtin_convertvector(to_bf16_words(x), Halves);
#endif
}

inline Floats load_bf16(const bf16* from) { return to_floats(load<Halves>(from)); }
inline void store_bf16(bf16* to, Floats x) { store(to, to_halves(x)); }

// The first n < W numbers, and zeros.
inline Floats load_bf16(const bf16* from, int n) {
    Halves h = {};
    memcpy(&h, from, n * sizeof(bf16));
    return to_floats(h);
}

inline void store_bf16(bf16* to, Floats x, int n) {
    Halves h = to_halves(x);
    memcpy(to, &h, n * sizeof(bf16));
}

inline Floats load_floats(const float* from, int n) {
    Floats v = {};
    memcpy(&v, from, n * sizeof(float));
    return v;
}

// f(i, how many) for whole vectors of n numbers and the rest; inlined twice, so that W is a constant.
template <class F>
inline __attribute__((always_inline)) void across(long n, F f) {
    long i = 0;
    for (; i + W <= n; i += W) f(i, W);
    if (i < n) f(i, int(n - i));
}

inline void add_to(float* sums, Floats x, int m) {
    Floats total = load_floats(sums, m) + x;
    memcpy(sums, &total, m * sizeof(float));
}

inline float to_float(bf16 h) {
    uint32_t bits = uint32_t(h) << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// 2^x to a relative 2e-7; below -125 exactly 0, above 127 as 2^127; a NaN stays.
inline Floats exp2(Floats x) {
    Floats y = lesser(greater(x, all(-125.0f)), all(127.0f));
    Floats n = (y + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23: the sum has no digits after the point
    Floats r = y - n;                            // [-.5, .5]
    Floats p = all(1.5403530e-4f);               // Taylor's series of 2^r, the sixth term fitted
    p = p * r + 1.3333558e-3f;
    p = p * r + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1.0f;
    Floats scaled = (Floats)((Ints)p + (__builtin_convertvector(n, Ints) << 23));
    return x < all(-125.0f) ? Floats{} : scaled;
}

constexpr float LOG2E = 1.4426950408889634f;

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exp2(x * -LOG2E)); }

// A good 32-bit mix (lowbias32 of Chris Wellons' hash prospector, public domain).
inline Words mix(Words x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

inline uint32_t mix(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

inline Words counting() {
    Words v;
    for (int i = 0; i < W; i++) v[i] = i;
    return v;
}

}  // namespace

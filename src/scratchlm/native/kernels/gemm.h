// Small matrix products in bfloat16 with float32 sums, for blocks that lie in the first cache.
#pragma once

#include "vector.h"

namespace {

// acc + lo(a) lo(b) + hi(a) hi(b) for each word; a is one pair of bfloat16, b holds W pairs.
inline Floats dot_pairs(Floats acc, Floats a_lo, Floats a_hi, Floats b_lo, Floats b_hi) {
    return acc + a_lo * b_lo + a_hi * b_hi;
}

#if defined(__AVX512F__)
constexpr int PANEL = 4;  // vectors in a row of a tile: with the rows below they fill the registers
constexpr int rows_of(int vectors) { return 24 / vectors < 12 ? 24 / vectors : 12; }
#elif defined(__AVX2__)
constexpr int PANEL = 2;
constexpr int rows_of(int) { return 4; }
#else
constexpr int PANEL = 4;
constexpr int rows_of(int) { return 4; }
#endif

// One tile: C (R, NV W) [+]= A (R, 2 pairs) B, where B holds pairs: word [k, n] = (B[2k, n], B[2k+1, n]).
template <int R, int NV, bool ADD>
inline void tile(long pairs, const bf16* A, long lda, const uint32_t* B, long ldb, float* C, long ldc) {
    Floats acc[R][NV];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < NV; v++) acc[r][v] = ADD ? load<Floats>(C + r * ldc + v * W) : Floats{};
    for (long k = 0; k < pairs; k++) {
        Words b[NV];
        for (int v = 0; v < NV; v++) b[v] = load<Words>(B + k * ldb + v * W);
#if defined(__AVX512BF16__)
        for (int r = 0; r < R; r++) {
            __m512i a = _mm512_set1_epi32((int)load<uint32_t>(A + r * lda + 2 * k));
            for (int v = 0; v < NV; v++)
                acc[r][v] = (Floats)_mm512_dpbf16_ps((__m512)acc[r][v], (__m512bh)a, (__m512bh)b[v]);
        }
#else
        Floats lo[NV], hi[NV];
        for (int v = 0; v < NV; v++) {
            lo[v] = (Floats)(b[v] << 16);
            hi[v] = (Floats)(b[v] & 0xffff0000u);
        }
        for (int r = 0; r < R; r++) {
            Floats a_lo = all(to_float(A[r * lda + 2 * k]));
            Floats a_hi = all(to_float(A[r * lda + 2 * k + 1]));
            for (int v = 0; v < NV; v++) acc[r][v] = dot_pairs(acc[r][v], a_lo, a_hi, lo[v], hi[v]);
        }
#endif
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < NV; v++) store(C + r * ldc + v * W, acc[r][v]);
}

template <int R, int NV, bool ADD>
inline void last_rows(long left, long pairs, const bf16* A, long lda, const uint32_t* B, long ldb,
                      float* C, long ldc) {
    if constexpr (R > 0) {
        if (left == R) return tile<R, NV, ADD>(pairs, A, lda, B, ldb, C, ldc);
        last_rows<R - 1, NV, ADD>(left, pairs, A, lda, B, ldb, C, ldc);
    }
}

template <int NV, bool ADD>
inline void panel(long M, long pairs, const bf16* A, long lda, const uint32_t* B, long ldb, float* C,
                  long ldc) {
    constexpr int R = rows_of(NV);
    long m = 0;
    for (; m + R <= M; m += R) tile<R, NV, ADD>(pairs, A + m * lda, lda, B, ldb, C + m * ldc, ldc);
    last_rows<R - 1, NV, ADD>(M - m, pairs, A + m * lda, lda, B, ldb, C + m * ldc, ldc);
}

template <int NV, bool ADD>
inline void last_panel(long left, long M, long pairs, const bf16* A, long lda, const uint32_t* B,
                       long ldb, float* C, long ldc) {
    if constexpr (NV > 0) {
        if (left == NV) return panel<NV, ADD>(M, pairs, A, lda, B, ldb, C, ldc);
        last_panel<NV - 1, ADD>(left, M, pairs, A, lda, B, ldb, C, ldc);
    }
}

// C (M, N) = or += A (M, 2 pairs) B (2 pairs, N): A row by row, B as words of pairs, N in W's.
template <bool ADD>
void gemm(long M, long N, long pairs, const bf16* A, long lda, const uint32_t* B, long ldb, float* C,
          long ldc) {
    long n = 0;
    for (; n + PANEL * W <= N; n += PANEL * W)
        panel<PANEL, ADD>(M, pairs, A, lda, B + n, ldb, C + n, ldc);
    last_panel<PANEL - 1, ADD>((N - n) / W, M, pairs, A, lda, B + n, ldb, C + n, ldc);
}

// out (columns, rows) = in (rows, columns), words.
inline void transpose_block(const uint32_t* in, long ld_in, uint32_t* out, long ld_out, long rows,
                            long columns) {
    for (long c = 0; c < columns; c++)
        for (long r = 0; r < rows; r++) out[c * ld_out + r] = load<uint32_t>(in + r * ld_in + c);
}

#if defined(__AVX512F__)
// 16 x 16 words: four rounds of exchanging, doubling the distance each time.
inline void transpose16x16(const uint32_t* in, long ld_in, uint32_t* out, long ld_out) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = load<__m512i>(in + i * ld_in);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 16; j += 8) {
            b[j + i] = _mm512_shuffle_i32x4(a[j + i], a[j + i + 4], 0x88);
            b[j + i + 4] = _mm512_shuffle_i32x4(a[j + i], a[j + i + 4], 0xdd);
        }
    }
    for (int i = 0; i < 4; i++) {
        store(out + i * ld_out, _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88));
        store(out + (i + 4) * ld_out, _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0x88));
        store(out + (i + 8) * ld_out, _mm512_shuffle_i32x4(b[i], b[i + 8], 0xdd));
        store(out + (i + 12) * ld_out, _mm512_shuffle_i32x4(b[i + 4], b[i + 12], 0xdd));
    }
}
#endif

inline void transpose(const uint32_t* in, long ld_in, uint32_t* out, long ld_out, long rows,
                      long columns) {
#if defined(__AVX512F__)
    long r = 0;
    for (; r + 16 <= rows; r += 16) {
        long c = 0;
        for (; c + 16 <= columns; c += 16)
            transpose16x16(in + r * ld_in + c, ld_in, out + c * ld_out + r, ld_out);
        transpose_block(in + r * ld_in + c, ld_in, out + c * ld_out + r, ld_out, 16, columns - c);
    }
    transpose_block(in + r * ld_in, ld_in, out + r, ld_out, rows - r, columns);
#else
    transpose_block(in, ld_in, out, ld_out, rows, columns);
#endif
}

// Words of pairs for B from rows that lie under one another: out [r, c] = (in[2r, c], in[2r+1, c]).
// `rows` numbers of in are read, the rest up to an even number count as zero; columns up to ld_out are 0.
inline void pair_rows(const bf16* in, long ld_in, uint32_t* out, long ld_out, long rows, long columns) {
    for (long r = 0; r < rows; r += 2) {
        const bf16* even = in + r * ld_in;
        const bf16* odd = r + 1 < rows ? even + ld_in : nullptr;
        uint32_t* to = out + r / 2 * ld_out;
        if (odd)
            for (long c = 0; c < columns; c++) to[c] = even[c] | uint32_t(odd[c]) << 16;
        else
            for (long c = 0; c < columns; c++) to[c] = even[c];
        for (long c = columns; c < ld_out; c++) to[c] = 0;
    }
}

}  // namespace

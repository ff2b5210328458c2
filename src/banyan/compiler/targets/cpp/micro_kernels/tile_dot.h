// A small dot product against a block that stays where it is, such as a block of the KV cache:
// C[rows, n] (+)= A[rows, k] * B, B packed [k/p][n][p] with `line_stride` elements between lines.
//
// Blocks of a cache lie anywhere, so with few rows the time is that of waiting for memory. `ahead`
// names the block that comes next, with the layout of a cache block; it is fetched while this one is
// multiplied. Null: nothing is fetched.
#ifndef BANYAN_TILE_DOT_H
#define BANYAN_TILE_DOT_H

#include "linear_fma.h"
#if defined(__AMX_BF16__) || defined(BANYAN_AMX_EMULATION)
#include "tile_dot_amx_bf16.h"
#elif defined(__AVX512BF16__)
#include "linear_avx512_bf16.h"
#endif

namespace banyan {

#if !defined(__AMX_BF16__) && !defined(BANYAN_AMX_EMULATION)
// Nothing to set up without tile registers. One lives while a task item does its dots.
struct DotSession {
  DotSession() {}
  ~DotSession() {}
};
#endif

template <class T>
inline void tile_dot(const DotSession&, const T* a, int64_t lda, const T* b, int64_t line_stride,
                     int64_t k, int64_t rows, int64_t n, float* c, int64_t ldc, bool accumulate,
                     const T* ahead = nullptr) {
  if (ahead != nullptr && rows <= fma::kRows) {
    constexpr int64_t line = 64 / sizeof(T);
    for (int64_t i = 0; i < k * n; i += line) __builtin_prefetch(ahead + i, 0, 3);
  }
  tile_dot_fma(a, lda, b, line_stride, k, rows, n, c, ldc, accumulate);
}

#if defined(__AMX_BF16__) || defined(BANYAN_AMX_EMULATION)
template <>
inline void tile_dot(const DotSession& session, const bfloat16* a, int64_t lda, const bfloat16* b,
                     int64_t line_stride, int64_t k, int64_t rows, int64_t n, float* c,
                     int64_t ldc, bool accumulate,
                     const bfloat16* ahead) {
  tile_dot_amx_bf16(session, a, lda, b, line_stride, k, rows, n, c, ldc, accumulate, ahead);
}
#elif defined(__AVX512BF16__)
template <>
inline void tile_dot(const DotSession&, const bfloat16* a, int64_t lda, const bfloat16* b,
                     int64_t line_stride, int64_t k, int64_t rows, int64_t n, float* c,
                     int64_t ldc, bool accumulate,
                     const bfloat16* ahead) {
  tile_dot_avx512_bf16(a, lda, b, line_stride, k, rows, n, c, ldc, accumulate, ahead);
}
#endif

// The same for a number of columns that is not whole panels, and blocks that start anywhere: heads
// of an unusual size. Slow.
template <class T>
inline void tile_dot_of_any_width(const DotSession&, const T* a, int64_t lda, const T* b,
                                  int64_t line_stride, int64_t k, int64_t rows, int64_t n, float* c,
                                  int64_t ldc, bool accumulate, const T* = nullptr) {
  constexpr int64_t group = Packing<T>::group;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < n; ++j) {
      float sum = accumulate ? c[r * ldc + j] : 0.0f;
      for (int64_t i = 0; i < k; ++i) {
        const T weight = b[i / group * line_stride + j * group + i % group];
        sum += to_float(a[r * lda + i]) * to_float(weight);
      }
      c[r * ldc + j] = sum;
    }
  }
}

}  // namespace banyan

#endif

// Packed linear with vdpbf16ps: two bfloat16 products per float32 lane and instruction.
//
// Up to twelve rows: the time is that of fetching weights. Panels are walked one or two at a time, so
// that memory sees ascending streams, and lines are asked for far ahead, across panels and items.
//
// More rows: register block 12 rows x 2 panels, 24 accumulators, 2 weights, 1 broadcast. Panels are
// walked in pairs and in chunks of k that stay near while the rows pass by. The first two groups of
// rows fetch one line of the next chunk for each line they multiply: at that even pace sixteen rows
// run at the speed of memory or of arithmetic, whichever is less.
#ifndef BANYAN_LINEAR_AVX512_BF16_H
#define BANYAN_LINEAR_AVX512_BF16_H

#include <immintrin.h>

#include "packed.h"

namespace banyan {
namespace avx512_bf16 {

constexpr int kRows = 12;
constexpr int kPanels = 2;
constexpr int64_t kChunk = 1024;  // k; two panels of 32 KB
constexpr int64_t kAhead = 4096;  // elements; 8 KB
// Panels streamed at once. One stream reads fastest, until broadcasting more than eight rows for each
// takes longer. CPUs with tiles stream up to three rows only; there four panels were measured faster.
#if defined(__AMX_BF16__)
constexpr int kStreamedRows = 3;
constexpr int streamed_panels(int) { return 4; }
#else
constexpr int kStreamedRows = kRows;
constexpr int streamed_panels(int rows) { return rows <= 8 ? 1 : 2; }
#endif

using View = PanelView<bfloat16>;

BANYAN_INLINE __m512bh load_line(const bfloat16* line) {
  return (__m512bh)_mm512_load_si512(line);
}

BANYAN_INLINE __m512bh broadcast_pair(const bfloat16* pair) {
  int32_t both;
  memcpy(&both, pair, sizeof both);
  return (__m512bh)_mm512_set1_epi32(both);
}

BANYAN_INLINE __m512bh broadcast_last(const bfloat16* single) {
  return (__m512bh)_mm512_set1_epi32(single->bits);
}

// c[R][P*16] (+)= a[R][k] * b, summed in `Chains` interleaved chains of lines. `ahead` points to the
// lines to fetch meanwhile, `Fetch` panels of them.
template <int R, int P, int Fetch, int Chains>
static void block(const bfloat16* a, int64_t lda, View b, int64_t k, float* c, int64_t ldc,
                         bool accumulate, const bfloat16* ahead) {
  __m512 sum[Chains][R][P];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      sum[0][r][p] = accumulate ? _mm512_load_ps(c + r * ldc + p * 16) : _mm512_setzero_ps();
      if (Chains == 2) sum[Chains - 1][r][p] = _mm512_setzero_ps();
    }
  }
  const bfloat16* row[R];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) row[r] = a + r * lda;
  const auto add = [&](int chain, int64_t i) __attribute__((always_inline)) {
    __m512bh weight[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      weight[p] = load_line(b.base + p * b.panel_stride + i * b.line_stride);
    }
#pragma GCC unroll 4
    for (int p = 0; p < Fetch; ++p) {
      __builtin_prefetch(ahead + p * b.panel_stride + i * b.line_stride, 0, 3);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512bh x = broadcast_pair(row[r] + 2 * i);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        sum[chain][r][p] = _mm512_dpbf16_ps(sum[chain][r][p], x, weight[p]);
      }
    }
  };
  const int64_t pairs = k / 2;
  int64_t i = 0;
  for (; i + Chains <= pairs; i += Chains) {
    add(0, i);
    if (Chains == 2) add(Chains - 1, i + 1);
  }
  if (Chains == 2 && i < pairs) add(0, i);
  if (k % 2 != 0) {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512bh x = broadcast_last(row[r] + k - 1);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const __m512bh weight = load_line(b.base + p * b.panel_stride + pairs * b.line_stride);
        sum[0][r][p] = _mm512_dpbf16_ps(sum[0][r][p], x, weight);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      if (Chains == 2) sum[0][r][p] = _mm512_add_ps(sum[0][r][p], sum[Chains - 1][r][p]);
      _mm512_store_ps(c + r * ldc + p * 16, sum[0][r][p]);
    }
  }
}

// Few rows against all panels.
template <int R>
static void stream_rows(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t k, int64_t panels,
                        float* c, int64_t ldc) {
  constexpr int P = streamed_panels(R);
  const int64_t stride = panel_elements<bfloat16>(k);
  int64_t p = 0;
  for (; p + P <= panels; p += P) {
    const View b{w + p * stride, stride, 2 * kPanelColumns};
    block<R, P, P, 1>(a, lda, b, k, c + p * kPanelColumns, ldc, false, b.base + kAhead / P);
  }
  for (; p < panels; ++p) {
    const View b{w + p * stride, stride, 2 * kPanelColumns};
    block<R, 1, 1, 1>(a, lda, b, k, c + p * kPanelColumns, ldc, false, b.base + kAhead);
  }
}

// More rows against P panels of a packed weight.
template <int P>
static void panel_group(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t k, int64_t rows,
                        float* c, int64_t ldc) {
  const int64_t stride = panel_elements<bfloat16>(k);
  for (int64_t first = 0; first < k; first += kChunk) {
    const int64_t depth = least(kChunk, k - first);
    const View b{w + first * kPanelColumns, stride, 2 * kPanelColumns};
    const bfloat16* next = first + kChunk < k ? b.base + kChunk * kPanelColumns : w + P * stride;
    in_groups<kRows>(rows, [&](auto count, int64_t row, int64_t g) {
      // Each of the first groups fetches a panel; the others ask for what is here.
      const bfloat16* ahead = g < P ? next + g * stride : b.base;
      block<count, P, 1, 1>(a + row * lda + first, lda, b, depth, c + row * ldc, ldc, first > 0,
                            ahead);
    });
  }
}

// All rows against P panels that are near, or were named in advance. With few rows, `ahead` (if any)
// is fetched at the offsets that are read from b, one line for each.
template <int P, int Chains>
static void near_panels(const bfloat16* a, int64_t lda, View b, int64_t k, int64_t rows, float* c,
                        int64_t ldc, bool accumulate, const bfloat16* ahead) {
  const bfloat16* next = ahead != nullptr && rows <= kRows ? ahead : b.base;
  in_groups<kRows>(rows, [&](auto count, int64_t row, int64_t) {
    block<count, P, P, Chains>(a + row * lda, lda, b, k, c + row * ldc, ldc, accumulate, next);
  });
}

// The same for n columns; `ahead` lies like b.
static void near_columns(const bfloat16* a, int64_t lda, View b, int64_t k, int64_t rows, int64_t n,
                         float* c, int64_t ldc, bool accumulate, const bfloat16* ahead) {
  constexpr int64_t wide = kPanels * kPanelColumns;
  for (int64_t j = 0; j < n; j += wide) {
    const View view{b.base + 2 * j, b.panel_stride, b.line_stride};
    const bfloat16* next = ahead == nullptr ? nullptr : ahead + 2 * j;
    if (j + wide <= n) {
      near_panels<kPanels, 1>(a, lda, view, k, rows, c + j, ldc, accumulate, next);
    } else {
      near_panels<1, 2>(a, lda, view, k, rows, c + j, ldc, accumulate, next);
    }
  }
}

}  // namespace avx512_bf16

inline void linear_tile_avx512_bf16(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t k,
                                    int64_t rows, int64_t panels, float* c, int64_t ldc) {
  using namespace avx512_bf16;
  if (rows <= kStreamedRows) {
    return with_constant<1, kStreamedRows>(
        rows, [&](auto count) { stream_rows<count>(a, lda, w, k, panels, c, ldc); });
  }
  const int64_t stride = panel_elements<bfloat16>(k);
  int64_t p = 0;
  for (; p + kPanels <= panels; p += kPanels) {
    panel_group<kPanels>(a, lda, w + p * stride, k, rows, c + p * kPanelColumns, ldc);
  }
  for (; p < panels; ++p) {
    panel_group<1>(a, lda, w + p * stride, k, rows, c + p * kPanelColumns, ldc);
  }
}

// See tile_dot in tile_dot.h. A lone panel is summed in two chains to hide the latency of its sums.
inline void tile_dot_avx512_bf16(const bfloat16* a, int64_t lda, const bfloat16* b,
                                 int64_t line_stride, int64_t k, int64_t rows, int64_t n, float* c,
                                 int64_t ldc, bool accumulate, const bfloat16* ahead) {
  const avx512_bf16::View view{b, 2 * kPanelColumns, line_stride};
  avx512_bf16::near_columns(a, lda, view, k, rows, n, c, ldc, accumulate, ahead);
}

}  // namespace banyan

#endif

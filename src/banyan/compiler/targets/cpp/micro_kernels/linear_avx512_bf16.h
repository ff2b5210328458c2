// Packed linear with vdpbf16ps: two bfloat16 products per float32 lane and instruction.
//
// Up to eight rows: the time is that of fetching weights. Panels are walked one by one, so that
// memory sees one ascending stream, and lines are asked for far ahead, across panels and items.
//
// More rows: register block 6 rows x 4 panels, 24 accumulators, 4 weights, 1 broadcast. Panels are
// walked in groups of four and in chunks of k that stay in the first-level cache while the rows pass
// by; the next chunk is fetched meanwhile, so weights may come from memory at full arithmetic speed.
#ifndef BANYAN_LINEAR_AVX512_BF16_H
#define BANYAN_LINEAR_AVX512_BF16_H

#include <immintrin.h>

#include "packed.h"

namespace banyan {
namespace avx512_bf16 {

constexpr int kRows = 6;
constexpr int kPanels = 4;
// k per chunk. Up to kSomeRows the time is that of fetching, which small chunks hide better; above,
// that of returning sums to memory, which large chunks do less often.
constexpr int64_t kSomeRows = 48;
constexpr int64_t kSmallChunk = 128;  // 4 panels of 4 KB
constexpr int64_t kLargeChunk = 512;  // 4 panels of 16 KB
// CPUs with tiles stream up to three rows only, and there four panels at once were measured faster.
#if defined(__AMX_BF16__)
constexpr int kStreamedPanels = 4;
constexpr int64_t kAhead = 1024;  // elements of each panel
#else
constexpr int kStreamedPanels = 1;
constexpr int64_t kAhead = 4096;
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
BANYAN_INLINE void block(const bfloat16* a, int64_t lda, View b, int64_t k, float* c, int64_t ldc,
                         bool accumulate, const bfloat16* ahead) {
  __m512 sum[Chains][R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      sum[0][r][p] = accumulate ? _mm512_load_ps(c + r * ldc + p * 16) : _mm512_setzero_ps();
      if (Chains == 2) sum[Chains - 1][r][p] = _mm512_setzero_ps();
    }
  }
  const bfloat16* row[R];
#pragma GCC unroll 8
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
#pragma GCC unroll 8
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
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512bh x = broadcast_last(row[r] + k - 1);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const __m512bh weight = load_line(b.base + p * b.panel_stride + pairs * b.line_stride);
        sum[0][r][p] = _mm512_dpbf16_ps(sum[0][r][p], x, weight);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      if (Chains == 2) sum[0][r][p] = _mm512_add_ps(sum[0][r][p], sum[Chains - 1][r][p]);
      _mm512_store_ps(c + r * ldc + p * 16, sum[0][r][p]);
    }
  }
}

// One to six rows.
template <int P, int Fetch, int Chains = 1>
static void rows_block(int64_t rows, const bfloat16* a, int64_t lda, View b, int64_t k, float* c,
                       int64_t ldc, bool accumulate, const bfloat16* ahead) {
  switch (rows) {
    case 1: return block<1, P, Fetch, Chains>(a, lda, b, k, c, ldc, accumulate, ahead);
    case 2: return block<2, P, Fetch, Chains>(a, lda, b, k, c, ldc, accumulate, ahead);
    case 3: return block<3, P, Fetch, Chains>(a, lda, b, k, c, ldc, accumulate, ahead);
    case 4: return block<4, P, Fetch, Chains>(a, lda, b, k, c, ldc, accumulate, ahead);
    case 5: return block<5, P, Fetch, Chains>(a, lda, b, k, c, ldc, accumulate, ahead);
    default: return block<6, P, Fetch, Chains>(a, lda, b, k, c, ldc, accumulate, ahead);
  }
}

// Few rows against all panels.
template <int R>
static void stream_rows(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t k, int64_t panels,
                        float* c, int64_t ldc) {
  constexpr int P = kStreamedPanels;
  const int64_t stride = panel_elements<bfloat16>(k);
  int64_t p = 0;
  for (; p + P <= panels; p += P) {
    const View b{w + p * stride, stride, 2 * kPanelColumns};
    block<R, P, P, 1>(a, lda, b, k, c + p * kPanelColumns, ldc, false, b.base + kAhead);
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
  const int64_t groups = ceil_divide(rows, kRows);
  const int64_t chunk = rows <= kSomeRows ? kSmallChunk : kLargeChunk;
  for (int64_t first = 0; first < k; first += chunk) {
    const int64_t depth = least(chunk, k - first);
    const View b{w + first * kPanelColumns, stride, 2 * kPanelColumns};
    const bfloat16* next = first + chunk < k ? b.base + chunk * kPanelColumns : w + P * stride;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t begin = rows * g / groups;
      const int64_t count = rows * (g + 1) / groups - begin;
      const bfloat16* x = a + begin * lda + first;
      float* out = c + begin * ldc;
      if (g < 2 && P == kPanels) {
        // The first two row groups fetch half of the next chunk's panels each.
        rows_block<P, P / 2>(count, x, lda, b, depth, out, ldc, first > 0,
                             next + g * (P / 2) * stride);
      } else {
        rows_block<P, 0>(count, x, lda, b, depth, out, ldc, first > 0, nullptr);
      }
    }
  }
}

// All rows against P panels that are near, or were named in advance. With few rows, `ahead` (if any)
// is fetched at the offsets that are read from b, one line for each.
template <int P, int Chains>
static void near_panels(const bfloat16* a, int64_t lda, View b, int64_t k, int64_t rows, float* c,
                        int64_t ldc, bool accumulate, const bfloat16* ahead) {
  if (ahead != nullptr && rows <= kRows) {
    rows_block<P, P, Chains>(rows, a, lda, b, k, c, ldc, accumulate, ahead);
    return;
  }
  for (int64_t r = 0; r < rows; r += kRows) {
    rows_block<P, 0, Chains>(least(kRows, rows - r), a + r * lda, lda, b, k, c + r * ldc, ldc,
                             accumulate, nullptr);
  }
}

}  // namespace avx512_bf16

inline void linear_tile_avx512_bf16(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t k,
                                    int64_t rows, int64_t panels, float* c, int64_t ldc) {
  using namespace avx512_bf16;
  switch (rows) {
    case 1: return stream_rows<1>(a, lda, w, k, panels, c, ldc);
    case 2: return stream_rows<2>(a, lda, w, k, panels, c, ldc);
    case 3: return stream_rows<3>(a, lda, w, k, panels, c, ldc);
#if !defined(__AMX_BF16__)
    case 4: return stream_rows<4>(a, lda, w, k, panels, c, ldc);
    case 5: return stream_rows<5>(a, lda, w, k, panels, c, ldc);
    case 6: return stream_rows<6>(a, lda, w, k, panels, c, ldc);
    case 7: return stream_rows<7>(a, lda, w, k, panels, c, ldc);
    case 8: return stream_rows<8>(a, lda, w, k, panels, c, ldc);
#endif
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
  using namespace avx512_bf16;
  constexpr int64_t wide = kPanels * kPanelColumns;
  const auto after = [ahead](int64_t j) { return ahead == nullptr ? nullptr : ahead + 2 * j; };
  int64_t j = 0;
  for (; j + wide <= n; j += wide) {
    const View view{b + 2 * j, 2 * kPanelColumns, line_stride};
    near_panels<kPanels, 1>(a, lda, view, k, rows, c + j, ldc, accumulate, after(j));
  }
  for (; j < n; j += kPanelColumns) {
    const View view{b + 2 * j, 2 * kPanelColumns, line_stride};
    near_panels<1, 2>(a, lda, view, k, rows, c + j, ldc, accumulate, after(j));
  }
}

}  // namespace banyan

#endif

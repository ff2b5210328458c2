// Packed linear with float32 multiply-add, on vectors as wide as the target has.
//
// The vectors are the compiler's own (GNU vector extension), so this one text serves AVX-512, AVX2,
// NEON and SSE. Weights may be bfloat16: a line of sixteen pairs becomes two vectors by a shift and
// a mask. Or halves, for which most CPUs have an instruction; sums of halves in halves, which
// AVX512-FP16 has, are no meaning of a product in the IR. Blocking is that of linear_avx512_bf16.h
// with a register block per vector width.
#ifndef BANYAN_LINEAR_FMA_H
#define BANYAN_LINEAR_FMA_H

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "packed.h"

namespace banyan {
namespace fma {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kRows = 6;  // 24 accumulators of 32 registers
constexpr int kPanels = 4;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
constexpr int kRows = 6;  // 12 accumulators of 16 registers
constexpr int kPanels = 1;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;
constexpr int kRows = 6;  // 24 accumulators of 32 registers
constexpr int kPanels = 1;
#else
constexpr int kVectorBytes = 16;
constexpr int kRows = 2;  // 8 accumulators of 16 registers
constexpr int kPanels = 1;
#endif
constexpr int kLanes = kVectorBytes / 4;
constexpr int kParts = 16 / kLanes;  // vectors per panel
constexpr int64_t kChunk = 256;      // k per chunk: a float32 panel of 16 KB

typedef float Vector __attribute__((vector_size(kVectorBytes), may_alias));
typedef uint32_t Bits __attribute__((vector_size(kVectorBytes), may_alias));

// kLanes halves as float32.
BANYAN_INLINE Vector widened(const float16* from) {
#if defined(__AVX512F__)
  // The form without a mask starts from an undefined register, which g++ 12 warns of.
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return (Vector)_mm512_maskz_cvtph_ps(0xffff, halves);
#elif defined(__F16C__)
  return (Vector)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  float values[kLanes];
  for (int i = 0; i < kLanes; ++i) values[i] = to_float(from[i]);
  Vector result;
  memcpy(&result, values, sizeof result);
  return result;
#endif
}

// Sixteen weights of one k as float32: part `part` of them. `step` counts k from the line's start.
template <class W>
BANYAN_INLINE Vector load_weights(const W* line, int part, int step);

template <>
BANYAN_INLINE Vector load_weights<float>(const float* line, int part, int) {
  return *reinterpret_cast<const Vector*>(line + part * kLanes);
}

template <>
BANYAN_INLINE Vector load_weights<bfloat16>(const bfloat16* line, int part, int step) {
  const Bits pairs = *reinterpret_cast<const Bits*>(line + part * kLanes * 2);
  return (Vector)(step == 0 ? pairs << 16 : pairs & 0xffff0000u);
}

template <>
BANYAN_INLINE Vector load_weights<float16>(const float16* line, int part, int) {
  return widened(line + part * kLanes);
}

// c[R][P*16] (+)= a[R][k] * b, summed in `Chains` interleaved chains of lines.
template <class W, int R, int P, int Chains>
BANYAN_INLINE void block(const float* a, int64_t lda, PanelView<W> b, int64_t k, float* c,
                         int64_t ldc, bool accumulate) {
  constexpr int64_t group = Packing<W>::group;
  constexpr int vectors = P * kParts;
  Vector sum[Chains][R][vectors];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      Vector* old = reinterpret_cast<Vector*>(c + r * ldc + v * kLanes);
      sum[0][r][v] = accumulate ? *old : Vector{};
      if (Chains == 2) sum[Chains - 1][r][v] = Vector{};
    }
  }
  const auto add = [&](int chain, int64_t line, int step) __attribute__((always_inline)) {
    Vector weight[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      const W* at = b.base + (v / kParts) * b.panel_stride + line * b.line_stride;
      weight[v] = load_weights<W>(at, v % kParts, step);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vector x = a[r * lda + line * group + step] - Vector{};
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sum[chain][r][v] += x * weight[v];
    }
  };
  const auto add_line = [&](int chain, int64_t line) __attribute__((always_inline)) {
    add(chain, line, 0);
    if (group == 2) add(chain, line, 1);
  };
  const int64_t lines = k / group;
  int64_t line = 0;
  for (; line + Chains <= lines; line += Chains) {
    add_line(0, line);
    if (Chains == 2) add_line(Chains - 1, line + 1);
  }
  if (Chains == 2 && line < lines) add_line(0, line);
  if (k % group != 0) add(0, lines, 0);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      if (Chains == 2) sum[0][r][v] += sum[Chains - 1][r][v];
      *reinterpret_cast<Vector*>(c + r * ldc + v * kLanes) = sum[0][r][v];
    }
  }
}

// float32 rows as they are; others are widened into `buffer`.
BANYAN_INLINE const float* widen(const float* a, int64_t lda, int64_t, int64_t, float*,
                                 int64_t* stride) {
  *stride = lda;
  return a;
}

template <class A>
BANYAN_INLINE const float* widen(const A* a, int64_t lda, int64_t rows, int64_t k, float* buffer,
                                 int64_t* stride) {
  for (int64_t r = 0; r < rows; ++r) {
    int64_t i = 0;
    if constexpr (std::is_same_v<A, float16>) {
      for (; i + kLanes <= k; i += kLanes) {
        *reinterpret_cast<Vector*>(buffer + r * kChunk + i) = widened(a + r * lda + i);
      }
    }
    for (; i < k; ++i) buffer[r * kChunk + i] = to_float(a[r * lda + i]);
  }
  *stride = kChunk;
  return buffer;
}

// All rows against P panels.
template <class A, class W, int P, int Chains>
static void panel_group(const A* a, int64_t lda, PanelView<W> b, int64_t k, int64_t rows, float* c,
                        int64_t ldc, bool accumulate) {
  alignas(64) float buffer[kRows * kChunk];
  for (int64_t first = 0; first < k; first += kChunk) {
    const int64_t depth = least(kChunk, k - first);
    PanelView<W> chunk = b;
    chunk.base += first / Packing<W>::group * b.line_stride;
    in_groups<kRows>(rows, [&](auto count, int64_t begin, int64_t) {
      int64_t stride;
      const float* x = widen(a + begin * lda + first, lda, count, depth, buffer, &stride);
      block<W, count, P, Chains>(x, stride, chunk, depth, c + begin * ldc, ldc,
                                 accumulate || first > 0);
    });
  }
}

}  // namespace fma

template <class A, class W>
inline void linear_tile_fma(const A* a, int64_t lda, const W* w, int64_t k, int64_t rows,
                            int64_t panels, float* c, int64_t ldc) {
  using namespace fma;
  const int64_t stride = panel_elements<W>(k);
  constexpr int64_t line = kPanelColumns * Packing<W>::group;
  int64_t p = 0;
  for (; p + kPanels <= panels; p += kPanels) {
    const PanelView<W> view{w + p * stride, stride, line};
    panel_group<A, W, kPanels, 1>(a, lda, view, k, rows, c + p * kPanelColumns, ldc, false);
  }
  for (; p < panels; ++p) {
    const PanelView<W> view{w + p * stride, stride, line};
    panel_group<A, W, 1, 1>(a, lda, view, k, rows, c + p * kPanelColumns, ldc, false);
  }
}

// See tile_dot in tile_dot.h. A lone panel is summed in two chains to hide the latency of its sums.
template <class T>
inline void tile_dot_fma(const T* a, int64_t lda, const T* b, int64_t line_stride, int64_t k,
                         int64_t rows, int64_t n, float* c, int64_t ldc, bool accumulate) {
  using namespace fma;
  constexpr int64_t group = Packing<T>::group;
  constexpr int64_t wide = kPanels * kPanelColumns;
  constexpr int lone_chains = kParts == 1 ? 2 : 1;
  int64_t j = 0;
  for (; kPanels > 1 && j + wide <= n; j += wide) {
    const PanelView<T> view{b + group * j, group * kPanelColumns, line_stride};
    panel_group<T, T, kPanels, 1>(a, lda, view, k, rows, c + j, ldc, accumulate);
  }
  for (; j < n; j += kPanelColumns) {
    const PanelView<T> view{b + group * j, group * kPanelColumns, line_stride};
    panel_group<T, T, 1, lone_chains>(a, lda, view, k, rows, c + j, ldc, accumulate);
  }
}

}  // namespace banyan

#endif

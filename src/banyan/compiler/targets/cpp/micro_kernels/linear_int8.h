// Linear of quantised weights and quantised activations: products and sums in integers.
//
// The sum of (weight - zero) * x over a group is the sum of weight * x, started at - zero * sum of x;
// then it is scaled and added to the result in float32. All rows pass over a chunk of k before the
// next, which is fetched meanwhile at an even pace: every pass over the chunk asks for its share of
// lines. Few rows, whose time is that of fetching, read whole lines of four panels in small chunks;
// more rows read half lines, so that sums and results of a group both stay in registers.
#ifndef BANYAN_LINEAR_INT8_H
#define BANYAN_LINEAR_INT8_H

#include "quantize_rows.h"

namespace banyan {
namespace quantized {

constexpr int64_t kNearChunk = 128;  // k
constexpr int64_t kFarChunk = 2048;

// Where R rows meet the panels from `panel` on, for k in [begin, end).
struct Place {
  const int8_t* a;
  int64_t lda;
  int panel;
  int64_t begin, end;
  float* c;
  int64_t ldc;
  const uint8_t* ahead;  // lines of the next chunk to fetch meanwhile
  int64_t advance;       // bytes to move on in `ahead` with each line
};

// What the sum of a group starts at, for kLanes columns; `total` is the sum of the row's bytes.
template <int Bits>
BANYAN_INLINE Ints start_sum(const Weight& w, int64_t g, int64_t column, int32_t total) {
  constexpr int32_t middle = Bits == 8 ? kMiddleOfBytes : 8;
  if (Bits == 8 || w.zeros == nullptr) return -middle * total - Ints{};
  return widen(w.zeros + g * kColumns + column) * -total;
}

BANYAN_INLINE Floats scaled(Ints sum, const Weight& w, int64_t g, int64_t column) {
  const float* scales = w.scales + g * kColumns + column;
  return __builtin_convertvector(sum, Floats) * *reinterpret_cast<const Floats*>(scales);
}

// Calls `work(r, v)` for R rows and V vectors.
template <int R, int V, class F>
BANYAN_INLINE void for_each(F&& work) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) work(r, v);
  }
}

// A sum that goes on in the next chunk lies in c as integers; there is only one group then.
template <int Bits, int R, int P>
static void block(const Place& at, const Weight& w) {
  constexpr int64_t step = 32 / Bits;
  constexpr int vectors = P * kParts;
  const int64_t depth = summed_depth(w);
  const int64_t group = w.k == w.group ? depth : w.group;
  const uint8_t* line = w.lines + at.begin / step * kLineBytes + at.panel * 64;
  const uint8_t* ahead = at.ahead;
  const auto place = [&](int r, int v) __attribute__((always_inline)) {
    return at.c + r * at.ldc + v * kLanes;
  };
  Floats result[R][vectors];
  for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
    result[r][v] = at.begin < group ? Floats{} : *reinterpret_cast<Floats*>(place(r, v));
  });
  for (int64_t k = at.begin; k < at.end;) {
    const int64_t g = k / group;
    const int64_t stop = least((g + 1) * group, at.end);
    const bool starts = k == g * group;
    Ints sum[R][vectors];
    for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
      sum[r][v] = starts ? start_sum<Bits>(w, g, at.panel * 16 + v * kLanes,
                                           row_sum(at.a + r * at.lda, w.k, g))
                         : *reinterpret_cast<Ints*>(place(r, v));
    });
#pragma GCC unroll 1
    for (; k < stop; k += step, line += kLineBytes, ahead += at.advance) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) __builtin_prefetch(ahead + 64 * p, 0, 3);
#pragma GCC unroll 2
      for (int half = 0; half < step / 4; ++half) {
        Bytes weights[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) {
          weights[v] = load_weights<Bits>(line + v * kVectorBytes, half);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          int32_t four;
          memcpy(&four, at.a + r * at.lda + k + 4 * half, sizeof four);
#pragma GCC unroll 16
          for (int v = 0; v < vectors; ++v) sum[r][v] = add_products(sum[r][v], weights[v], four);
        }
      }
    }
    if (k < (g + 1) * group) {
      for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
        *reinterpret_cast<Ints*>(place(r, v)) = sum[r][v];
      });
      return;
    }
    for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
      result[r][v] += scaled(sum[r][v], w, g, at.panel * 16 + v * kLanes);
    });
  }
  for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
    const float unit = at.end < depth ? 1.0f : row_step(at.a + r * at.lda, w.k);
    *reinterpret_cast<Floats*>(place(r, v)) = result[r][v] * unit;
  });
}

// All rows against one block of 64 columns: up to Rows rows and P panels at once.
template <int Bits, int Rows, int P>
static void columns_block(const int8_t* a, int64_t lda, const Weight& w, int64_t rows,
                          int64_t chunk, float* c, int64_t ldc) {
  const int64_t depth = summed_depth(w);
  const int64_t passes = ceil_divide(rows, Rows) * 4 / P;
  if (w.group < w.k) chunk = round_up(chunk, w.group);
  for (int64_t begin = 0; begin < depth; begin += chunk) {
    const int64_t end = least(depth, begin + chunk);
    const uint8_t* next = w.lines + (begin + chunk) * kColumns * Bits / 8;
    const int64_t share = (end - begin) * kColumns * Bits / 8 / passes;
    in_groups<Rows>(rows, [&](auto count, int64_t row, int64_t) {
      for (int panel = 0; panel < 4; panel += P, next += share) {
        const Place at{a + row * lda, lda, panel, begin, end, c + row * ldc + panel * 16, ldc,
                       next, kLineBytes / passes};
        block<Bits, count, P>(at, w);
      }
    });
  }
}

template <int Bits>
static void any_rows(const int8_t* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                     int64_t ldc) {
#if defined(__AVX512VNNI__)
  if (Bits == 8 && rows <= 12) {
    return columns_block<Bits, 6, 4>(a, lda, w, rows, kNearChunk, c, ldc);
  }
  // Nibbles come in groups, so that results want registers too.
  if (rows <= 6) return columns_block<Bits, 4, 4>(a, lda, w, rows, kNearChunk, c, ldc);
  if (rows <= 12) return columns_block<Bits, 6, 2>(a, lda, w, rows, kFarChunk, c, ldc);
#endif
  columns_block<Bits, kRows, kPanels>(a, lda, w, rows, kFarChunk, c, ldc);
}

}  // namespace quantized

// c[rows][blocks * 64] = quantised rows a (lda bytes apart) times some blocks of a weight.
template <int Bits>
static inline void linear_int8(const int8_t* a, int64_t lda, const quantized::Weight& w,
                               int64_t rows, int64_t blocks, float* c, int64_t ldc) {
  for (int64_t b = 0; b < blocks; ++b) {
    quantized::any_rows<Bits>(a, lda, quantized::from_block<Bits>(w, b), rows,
                              c + b * quantized::kColumns, ldc);
  }
}

}  // namespace banyan

#endif

// Blocks of rows against quantised weights, for any way to multiply them.
//
// A format says what rows are, what sums they make with a line of weights, and how a sum of a group
// becomes float32; then it is scaled and added to the result. Few rows, whose time is that of
// fetching, read whole lines of four panels, once if their sums fit the registers. Otherwise all rows
// pass over a chunk of k before the next, which is fetched meanwhile at an even pace: every pass asks
// for its share of lines. More rows read half lines, so that sums and results both stay in registers.
//
// struct Format {
//   using Row, Sum, Weights;
//   static constexpr int64_t kStep;        // k of a line
//   static constexpr int kSlices;          // parts of a line that are multiplied at once
//   static constexpr int kWholeLines;      // up to so many rows read whole lines,
//   static constexpr int kWholeLinesRows;  // so many at once
//   explicit Format(const Weight&);
//   static int64_t depth(const Weight&);   // k to be summed, padding included where rows have it
//   void start_group(const Weight&, int64_t group);
//   Sum start(const Weight&, int64_t group, int64_t column, const Row* row) const;
//   Weights load(const uint8_t* at, int panel, int slice) const;   // kLanes columns
//   static int32_t broadcast(const Row* from, int slice);          // from the first k of the line
//   static Sum add(Sum, Weights, int32_t);
//   static Floats value(Sum);
//   static float unit(const Weight&, const Row* row);              // of the finished result
// };
#ifndef BANYAN_QUANTIZED_BLOCK_H
#define BANYAN_QUANTIZED_BLOCK_H

#include "quantized.h"

namespace banyan {
namespace quantized {

constexpr int64_t kNearChunk = 128;  // k
constexpr int64_t kFarChunk = 2048;
constexpr int64_t kAhead = 4096;  // bytes, where rows pass but once

// Where R rows meet the panels from `panel` on, for k in [begin, end).
template <class Row>
struct Place {
  const Row* a;
  int64_t lda;
  int panel;
  int64_t begin, end;
  float* c;
  int64_t ldc;
  const uint8_t* ahead;  // lines of the next chunk to fetch meanwhile
  int64_t advance;       // bytes to move on in `ahead` with each line
};

// The scales of kLanes columns.
BANYAN_INLINE Floats load_scales(const Weight& w, int64_t g, int64_t column) {
  return *reinterpret_cast<const Floats*>(w.scales + g * kColumns + column);
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

// A sum that goes on in the next chunk lies in c as it is; there is only one group then.
template <class Format, int R, int P>
static void block(const Place<typename Format::Row>& at, const Weight& w, Format& format) {
  using Sum = typename Format::Sum;
  constexpr int vectors = P * kParts;
  const int64_t depth = Format::depth(w);
  const int64_t group = w.k == w.group ? depth : w.group;
  const uint8_t* line = w.lines + at.begin / Format::kStep * kLineBytes + at.panel * 64;
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
    format.start_group(w, g);
    Sum sum[R][vectors];
    for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
      sum[r][v] = starts ? format.start(w, g, at.panel * 16 + v * kLanes, at.a + r * at.lda)
                         : *reinterpret_cast<Sum*>(place(r, v));
    });
#pragma GCC unroll 1
    for (; k < stop; k += Format::kStep, line += kLineBytes, ahead += at.advance) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) __builtin_prefetch(ahead + 64 * p, 0, 3);
#pragma GCC unroll 4
      for (int slice = 0; slice < Format::kSlices; ++slice) {
        typename Format::Weights weights[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) {
          weights[v] = format.load(line + v * kVectorBytes, at.panel + v / kParts, slice);
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const int32_t x = Format::broadcast(at.a + r * at.lda + k, slice);
#pragma GCC unroll 16
          for (int v = 0; v < vectors; ++v) sum[r][v] = Format::add(sum[r][v], weights[v], x);
        }
      }
    }
    if (k < (g + 1) * group && k < depth) {
      for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
        *reinterpret_cast<Sum*>(place(r, v)) = sum[r][v];
      });
      return;
    }
    Floats scales[vectors];
    for_each<1, vectors>([&](int, int v) __attribute__((always_inline)) {
      scales[v] = load_scales(w, g, at.panel * 16 + v * kLanes);
    });
    for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
      result[r][v] += Format::value(sum[r][v]) * scales[v];
    });
  }
  for_each<R, vectors>([&](int r, int v) __attribute__((always_inline)) {
    const float unit = at.end < depth ? 1.0f : Format::unit(w, at.a + r * at.lda);
    *reinterpret_cast<Floats*>(place(r, v)) = result[r][v] * unit;
  });
}

// All rows against one block of 64 columns: up to Rows rows and P panels at once.
template <class Format, int Rows, int P>
static void columns_block(const typename Format::Row* a, int64_t lda, const Weight& w, int64_t rows,
                          int64_t chunk, float* c, int64_t ldc) {
  constexpr int64_t bytes = kLineBytes / Format::kStep;  // of one k
  const int64_t depth = Format::depth(w);
  const int64_t passes = ceil_divide(rows, Rows) * 4 / P;
  Format format(w);
  if (w.group < w.k) chunk = round_up(chunk, w.group);
  if (passes == 1) chunk = depth;
  for (int64_t begin = 0; begin < depth; begin += chunk) {
    const int64_t end = least(depth, begin + chunk);
    const uint8_t* next = w.lines + (passes == 1 ? kAhead : (begin + chunk) * bytes);
    in_groups<Rows>(rows, [&](auto count, int64_t row, int64_t) {
      for (int panel = 0; panel < 4; panel += P, next += (end - begin) * bytes / passes) {
        const Place<typename Format::Row> at{a + row * lda, lda, panel, begin, end,
                                             c + row * ldc + panel * 16, ldc, next,
                                             kLineBytes / passes};
        block<Format, count, P>(at, w, format);
      }
    });
  }
}

// The same with the blocks that suit the number of rows.
template <class Format>
static void any_rows(const typename Format::Row* a, int64_t lda, const Weight& w, int64_t rows,
                     float* c, int64_t ldc) {
#if defined(__AVX512VNNI__)
  if (rows <= Format::kWholeLines) {
    return columns_block<Format, Format::kWholeLinesRows, 4>(a, lda, w, rows, kNearChunk, c, ldc);
  }
  if (rows <= 12) return columns_block<Format, 6, 2>(a, lda, w, rows, kFarChunk, c, ldc);
#endif
  columns_block<Format, kRows, kPanels>(a, lda, w, rows, kFarChunk, c, ldc);
}

}  // namespace quantized
}  // namespace banyan

#endif

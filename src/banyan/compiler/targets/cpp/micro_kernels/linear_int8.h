// Linear of quantised weights and quantised activations: products and sums in integers.
//
// The sum of (weight - zero) * x over a group is the sum of weight * x, started at - zero * sum of x;
// then it is scaled and added to the result in float32. Few rows stream the weights once; more rows
// take a chunk of k that stays in the first-level cache, as in linear_avx512_bf16.h.
#ifndef BANYAN_LINEAR_INT8_H
#define BANYAN_LINEAR_INT8_H

#include "quantize_rows.h"

namespace banyan {
namespace quantized {

constexpr int64_t kStreamRows = 6;         // up to here weights are read once
constexpr int64_t kStreamAhead = 4096;     // bytes
constexpr int64_t kSomeRows = 48;
constexpr int64_t kSmallChunk = 128;       // k, up to kSomeRows rows
constexpr int64_t kLargeChunk = 512;       // k

// Where R rows meet the panels from `panel` on, for k in [begin, end).
struct Place {
  const int8_t* a;
  int64_t lda;
  int panel;
  int64_t begin, end;
  float* c;
  int64_t ldc;
  const uint8_t* ahead;  // lines of the next chunk to fetch meanwhile
  int64_t advance;       // bytes to move on in `ahead` with each line: two fetched, or none
};

template <int Bits, int R, int P>
BANYAN_INLINE void start_sums(const Place& at, const Weight& w, int64_t g,
                              Ints (&sum)[R][P * kParts]) {
  constexpr int32_t middle = Bits == 8 ? kMiddleOfBytes : 8;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const int32_t total = row_sum(at.a + r * at.lda, w.k, g);
#pragma GCC unroll 16
    for (int v = 0; v < P * kParts; ++v) {
      if (Bits == 4 && w.zeros != nullptr) {
        const uint8_t* zeros = w.zeros + g * kColumns + at.panel * 16 + v * kLanes;
        sum[r][v] = widen(zeros) * -total;
      } else {
        sum[r][v] = -middle * total - Ints{};
      }
    }
  }
}

template <int R, int P>
BANYAN_INLINE void finish_group(const Place& at, const Weight& w, int64_t g, bool last,
                                Ints (&sum)[R][P * kParts]) {
  constexpr int vectors = P * kParts;
  const float* scales = w.scales + g * kColumns + at.panel * 16;
  Floats scale[vectors];
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) scale[v] = reinterpret_cast<const Floats*>(scales)[v];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    Floats* out = reinterpret_cast<Floats*>(at.c + r * at.ldc);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) {
      const Floats value = __builtin_convertvector(sum[r][v], Floats);
      out[v] = g > 0 ? value * scale[v] + out[v] : value * scale[v];
    }
  }
  if (!last) return;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    Floats* out = reinterpret_cast<Floats*>(at.c + r * at.ldc);
    const float step = row_step(at.a + r * at.lda, w.k);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) out[v] *= step;
  }
}

// Sums of a group that goes on in the next chunk lie in c as integers.
template <int R, int P>
BANYAN_INLINE void keep_sums(const Place& at, Ints (&sum)[R][P * kParts], bool load) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < P * kParts; ++v) {
      Ints* kept = reinterpret_cast<Ints*>(at.c + r * at.ldc + v * kLanes);
      if (load) {
        sum[r][v] = *kept;
      } else {
        *kept = sum[r][v];
      }
    }
  }
}

template <int Bits, int R, int P, bool Stream>
static void block(const Place& at, const Weight& w) {
  constexpr int64_t step = 32 / Bits;
  constexpr int vectors = P * kParts;
  const int64_t depth = summed_depth(w);
  const int64_t group = w.k == w.group ? depth : w.group;
  const uint8_t* line = w.lines + at.begin / step * kLineBytes + at.panel * 64;
  const uint8_t* ahead = at.ahead;
  for (int64_t k = at.begin; k < at.end;) {
    const int64_t g = k / group;
    const int64_t stop = least((g + 1) * group, at.end);
    Ints sum[R][vectors];
    if (k == g * group) {
      start_sums<Bits, R, P>(at, w, g, sum);
    } else {
      keep_sums<R, P>(at, sum, true);
    }
    for (; k < stop; k += step, line += kLineBytes) {
#pragma GCC unroll 4
      for (int p = 0; p < (Stream ? P : 2); ++p) {
        __builtin_prefetch((Stream ? line + kStreamAhead : ahead) + 64 * p, 0, 3);
      }
      ahead += at.advance;
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
    if (k == (g + 1) * group) {
      finish_group<R, P>(at, w, g, k == depth, sum);
    } else {
      keep_sums<R, P>(at, sum, false);
    }
  }
}

// One to kRows rows; without streaming, more than kStreamRows are divided evenly.
template <int Bits, int P, bool Stream>
static void rows_block(int64_t rows, const Place& at, const Weight& w) {
  constexpr int two = kRows < 2 ? kRows : 2;
  constexpr int three = kRows < 3 ? kRows : 3;
  constexpr int four = kRows < 4 ? kRows : 4;
  constexpr int five = kRows < 5 ? kRows : 5;
  constexpr int one = Stream || kRows < 4 ? 1 : two;  // four or more rows are divided better
  switch (rows) {
    case 1: return block<Bits, one, P, Stream>(at, w);
    case 2: return block<Bits, two, P, Stream>(at, w);
    case 3: return block<Bits, three, P, Stream>(at, w);
    case 4: return block<Bits, four, P, Stream>(at, w);
    case 5: return block<Bits, five, P, Stream>(at, w);
    default: return block<Bits, kRows, P, Stream>(at, w);
  }
}

// All rows against one block of 64 columns.
template <int Bits>
static void columns_block(const int8_t* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                          int64_t ldc) {
  const int64_t depth = summed_depth(w);
  const int64_t groups = ceil_divide(rows, kRows);
  int64_t chunk = rows <= kStreamRows ? depth : rows <= kSomeRows ? kSmallChunk : kLargeChunk;
  if (w.group < w.k) chunk = round_up(chunk, w.group);
  const bool stream = rows <= kStreamRows;
  for (int64_t begin = 0; begin < depth; begin += chunk) {
    const int64_t end = least(depth, begin + chunk);
    const int64_t half = (end - begin) * kColumns * Bits / 16;
    const uint8_t* next = w.lines + (begin + chunk) * kColumns * Bits / 8;
    for (int64_t pass = 0; pass < groups * 4 / kPanels; ++pass) {
      const int64_t i = pass / (4 / kPanels);
      const int panel = static_cast<int>(pass % (4 / kPanels)) * kPanels;
      const int64_t row = rows * i / groups;
      const int64_t count = rows * (i + 1) / groups - row;
      // The first two passes over a chunk fetch half of the next one each.
      const bool fetch = pass < 2;
      const Place at{a + row * lda, lda, panel, begin, end, c + row * ldc + panel * 16, ldc,
                     fetch ? next + pass * half : w.lines, fetch ? 128 : 0};
      (stream ? rows_block<Bits, kPanels, true> : rows_block<Bits, kPanels, false>)(count, at, w);
    }
  }
}

}  // namespace quantized

// c[rows][blocks * 64] = quantised rows a (lda bytes apart) times some blocks of a weight.
template <int Bits>
static inline void linear_int8(const int8_t* a, int64_t lda, const quantized::Weight& w,
                               int64_t rows, int64_t blocks, float* c, int64_t ldc) {
  for (int64_t b = 0; b < blocks; ++b) {
    quantized::columns_block<Bits>(a, lda, quantized::from_block<Bits>(w, b), rows,
                                   c + b * quantized::kColumns, ldc);
  }
}

}  // namespace banyan

#endif

// Matrix products with blocks that lie anywhere: pages of a KV cache, read where they lie.
//
// `blocks` are the addresses; null stands for a block of zeros. With few rows the time is that of
// waiting for memory: `ahead` names the blocks that the next product reads, and they are fetched
// line by line while these are multiplied. Null: nothing is fetched.
#ifndef BANYAN_BLOCK_DOT_H
#define BANYAN_BLOCK_DOT_H

#include <type_traits>

#include "tile_dot.h"
#include "widened_blocks.h"
#if defined(__AVX512BF16__)
#include "block_lines_avx512.h"
#endif

namespace banyan {

// C[rows, blocks * 16] = A[rows, k] * blocks, each [k/p][16][p], block by block.
template <class T>
inline void block_columns_one_by_one(const DotSession& session, const T* a, int64_t lda,
                          const T* const* blocks, int64_t count, int64_t k, int64_t rows, float* c,
                          int64_t ldc, const T* const* ahead) {
  for (int64_t i = 0; i < count; ++i) {
    float* out = c + i * kPanelColumns;
    if (blocks[i] != nullptr) {
      tile_dot(session, a, lda, blocks[i], Packing<T>::group * kPanelColumns, k, rows,
               kPanelColumns, out, ldc, false, ahead == nullptr ? nullptr : ahead[i]);
    } else {
      for (int64_t r = 0; r < rows; ++r) memset(out + r * ldc, 0, kPanelColumns * sizeof(float));
    }
  }
}

// C[rows, n] (+)= A[rows, blocks * k] * blocks, each [k/p][n][p], block by block.
template <class T>
inline void block_rows_one_by_one(const DotSession& session, const T* a, int64_t lda, const T* const* blocks,
                       int64_t count, int64_t k, int64_t rows, int64_t n, float* c, int64_t ldc,
                       bool accumulate, const T* const* ahead) {
  if (!accumulate) {
    for (int64_t r = 0; r < rows; ++r) memset(c + r * ldc, 0, n * sizeof(float));
  }
  const auto dot = n % kPanelColumns == 0 ? tile_dot<T> : tile_dot_of_any_width<T>;
  for (int64_t i = 0; i < count; ++i) {
    if (blocks[i] == nullptr) continue;
    dot(session, a + i * k, lda, blocks[i], Packing<T>::group * n, k, rows, n, c, ldc, true,
        ahead == nullptr ? nullptr : ahead[i]);
  }
}

template <class T>
inline void block_columns(const DotSession& session, const T* a, int64_t lda,
                          const T* const* blocks, int64_t count, int64_t k, int64_t rows, float* c,
                          int64_t ldc, const T* const* ahead) {
  block_columns_one_by_one(session, a, lda, blocks, count, k, rows, c, ldc, ahead);
}

template <class T>
inline void block_rows(const DotSession& session, const T* a, int64_t lda, const T* const* blocks,
                       int64_t count, int64_t k, int64_t rows, int64_t n, float* c, int64_t ldc,
                       bool accumulate, const T* const* ahead) {
  block_rows_one_by_one(session, a, lda, blocks, count, k, rows, n, c, ldc, accumulate, ahead);
}

#if defined(__AVX512BF16__)
namespace avx512_bf16 {

// Rows at once: 24 sums of four panels stay in registers.
constexpr int kBlockRows = 6;
// Blocks read side by side, line by line: the hardware runs ahead of several streams at once.
constexpr int kStreams = 4;
constexpr int64_t kStreamAhead = 4096;  // bytes

template <class B>
BANYAN_INLINE void fetch_line(const B* line, int64_t i) {
  if (Line<B>::kEvery > 0 && i % Line<B>::kEvery == 0) __builtin_prefetch(line, 0, 3);
}

// S blocks, and S that come next; what is not there is fetched from where something is.
template <int S, class B>
struct Streams {
  const B* here[S];
  const B* next[S];

  BANYAN_INLINE Streams(const B* const* blocks, const B* const* ahead, const B* any) {
#pragma GCC unroll 4
    for (int s = 0; s < S; ++s) {
      here[s] = blocks[s] != nullptr ? blocks[s] : any;
      next[s] = ahead != nullptr && ahead[s] != nullptr ? ahead[s] : here[s];
      for (int i = 0; i < Line<B>::kFirst; ++i) {
        __builtin_prefetch(next[s] + i * Line<B>::kStride, 0, 3);
      }
    }
  }
};

template <class Row>
BANYAN_INLINE __m512i pair_of(const Row* pair) {
  int32_t bits;
  memcpy(&bits, pair, sizeof bits);
  return _mm512_set1_epi32(bits);
}

// Rows as products take them: `scale[r]` times what `data` holds.
template <class Row>
struct Rows {
  const Row* data;
  int64_t stride;
  float scale[kBlockRows];
};

template <class B>
using RowsFor = Rows<typename Line<B>::Row>;

// A row as 16-bit integers, so large that `k` products with bytes still fit in 32 bits. Returns
// what one is worth: NaN for a row with a NaN or an infinity.
static float to_integers(const bfloat16* row, int64_t k, int16_t* to) {
  uint16_t top = 0;
  for (int64_t i = 0; i < k; ++i) {
    const uint16_t size = row[i].bits & 0x7fff;
    top = size > top ? size : top;
  }
  const float most = static_cast<float>(least(32767, (int64_t{1} << 24) / k - 1));
  const float largest = to_float(bfloat16{top});
  const bool is_finite = top < 0x7f80;
  const float inverse = is_finite && largest > 1e-30f ? most / largest : 0.0f;
#pragma omp simd
  for (int64_t i = 0; i < k; ++i) {
    const float scaled = is_finite ? to_float(row[i]) * inverse : 0.0f;
    to[i] = static_cast<int16_t>(static_cast<int32_t>(__builtin_rintf(scaled)));
  }
  return is_finite ? largest / most : float_from_bits(0x7fc00000u);
}

// Sums of R rows and P panels. Those of a lone panel are made in two chains, so that one needs not wait
// for the other.
template <int R, int P, class B>
struct Sums {
  using Sum = typename Line<B>::Sum;
  static constexpr int kChains = P == 1 ? 2 : 1;
  Sum sum[kChains][R][P];

  BANYAN_INLINE Sums() {
#pragma GCC unroll 2
    for (int chain = 0; chain < kChains; ++chain) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) sum[chain][r][p] = Line<B>::zero();
      }
    }
  }
  BANYAN_INLINE void add(int chain, int r, int p, __m512i x, __m512i weight) {
    sum[chain][r][p] = Line<B>::add(sum[chain][r][p], x, weight);
  }
  // Calls `step(chain, line)` for all lines of pairs.
  template <class F>
  static BANYAN_INLINE void each_line(int64_t lines, F step) {
    int64_t i = 0;
#pragma GCC unroll 2
    for (; i + kChains <= lines; i += kChains) {
      step(0, i);
      if (kChains == 2) step(kChains - 1, i + 1);
    }
    if (kChains == 2 && i < lines) step(0, i);
  }
  BANYAN_INLINE __m512 value(int r, int p, float scale) const {
    const Sum first = sum[0][r][p];
    return Line<B>::value(kChains == 1 ? first : Line<B>::both(first, sum[kChains - 1][r][p]), scale);
  }
};

// R rows against P blocks side by side.
template <int R, int P, class B>
static void columns_of(const RowsFor<B>& a, const B* const* blocks, int64_t k, float* c,
                       int64_t ldc, const B* const* ahead) {
  constexpr int64_t line = Line<B>::kStride;
  const B* any = nullptr;
  for (int p = 0; p < P; ++p) any = blocks[p] != nullptr ? blocks[p] : any;
  const Streams<P, B> from(blocks, ahead, any);
  Sums<R, P, B> sums;
  const int64_t pairs = any == nullptr ? 0 : k / 2;
  sums.each_line(pairs, [&](int chain, int64_t i) __attribute__((always_inline)) {
    __m512i x[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) x[r] = pair_of(a.data + r * a.stride + 2 * i);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      fetch_line(from.next[p] + i * line, i);
      const __m512i weight = Line<B>::load(from.here[p] + i * line);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums.add(chain, r, p, x[r], weight);
    }
  });
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const __m512 value = sums.value(r, p, a.scale[r]);
      _mm512_store_ps(c + r * ldc + p * kPanelColumns,
                      blocks[p] != nullptr ? value : _mm512_setzero_ps());
    }
  }
}

// The blocks that are there, at most kMost, and where each finds its weights in a row. Places come in
// groups of kStreams, and blocks of one group are summed together. Which blocks those are depends on
// their places alone: a block behind them, which other rows of the tile see, changes no sum.
template <class B>
struct Present {
  static constexpr int64_t kMost = 16;
  const B* address[kMost];
  int64_t weights[kMost];
  int64_t together[kMost];  // at the first of each group: how many of it there are
  int64_t count = 0;

  // Takes the blocks of places [begin, end) of a step that starts at `step`.
  BANYAN_INLINE void take_group(const B* const* blocks, int64_t begin, int64_t end, int64_t step,
                                int64_t k) {
    const int64_t first = count;
    for (int64_t i = begin; i < end; ++i) {
      if (blocks[i] == nullptr) continue;
      address[count] = blocks[i];
      weights[count++] = (i - step) * k;
    }
    if (count > first) together[first] = count - first;
  }
};

// R rows of weights against P panels of S blocks. Every sum goes through the blocks line by line,
// whatever R is; the panels of few rows do it one by one too.
template <int R, int P, int S, class B>
BANYAN_INLINE void add_rows(typename Line<B>::Sum (&sum)[R][P], const RowsFor<B>& a,
                            const Present<B>& blocks, int64_t b, int64_t k, int64_t n,
                            int64_t first, const B* const* ahead) {
  const bool is_last = b + 2 * S > blocks.count;
  const Streams<S, B> from(blocks.address + b, is_last ? ahead : blocks.address + b + S, nullptr);
  constexpr int64_t kEach = Line<B>::kStride / kPanelColumns;  // elements of a column of two tokens
  constexpr int kPart = R * (P + S) < 32 ? S : 1;  // of the blocks, whose rows stay in registers
#pragma GCC unroll 1
  for (int64_t i = 0; i < k / 2; ++i) {
#pragma GCC unroll 4
    for (int part = 0; part < S; part += kPart) {
      __m512i x[R][kPart];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int s = 0; s < kPart; ++s) {
          x[r][s] = pair_of(a.data + r * a.stride + blocks.weights[b + part + s] + 2 * i);
        }
      }
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const int64_t place = (i * n + first + p * kPanelColumns) * kEach;
#pragma GCC unroll 4
        for (int s = 0; s < kPart; ++s) {
          fetch_line(from.next[part + s] + place, p);
          const __m512i weight = Line<B>::load_values(from.here[part + s], i, n, first, p);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) sum[r][p] = Line<B>::add(sum[r][p], x[r][s], weight);
        }
      }
    }
  }
}

// The same with fewer blocks than a whole group, in the same order.
template <int R, int P, class B>
BANYAN_INLINE void add_some(typename Line<B>::Sum (&sum)[R][P], const RowsFor<B>& a,
                            const Present<B>& blocks, int64_t b, int64_t count, int64_t k,
                            int64_t n, int64_t first, const B* const* ahead) {
  constexpr int64_t kEach = Line<B>::kStride / kPanelColumns;
#pragma GCC unroll 1
  for (int64_t i = 0; i < k / 2; ++i) {
#pragma GCC unroll 1
    for (int64_t s = 0; s < count; ++s) {
      const B* const here = blocks.address[b + s];
      const B* const next = ahead != nullptr && ahead[s] != nullptr ? ahead[s] : here;
      __m512i x[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        x[r] = pair_of(a.data + r * a.stride + blocks.weights[b + s] + 2 * i);
      }
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        fetch_line(next + (i * n + first + p * kPanelColumns) * kEach, p);
        const __m512i weight = Line<B>::load_values(here, i, n, first, p);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r][p] = Line<B>::add(sum[r][p], x[r], weight);
      }
    }
  }
}

// R rows of weights against P panels of all blocks.
template <int R, int P, class B>
static void rows_of(const RowsFor<B>& a, const Present<B>& blocks, int64_t k, int64_t n,
                    int64_t first, float* c, int64_t ldc, bool accumulate, const B* const* ahead) {
  typename Line<B>::Sum sum[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sum[r][p] = Line<B>::zero();
  }
  for (int64_t b = 0; b < blocks.count; b += blocks.together[b]) {
    if (blocks.together[b] == kStreams) {
      add_rows<R, P, kStreams>(sum, a, blocks, b, k, n, first, ahead);
    } else {
      add_some<R, P>(sum, a, blocks, b, blocks.together[b], k, n, first, ahead);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    __m512 values[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) values[p] = Line<B>::value(sum[r][p], a.scale[r]);
    in_order<B>(values);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      float* const to = c + r * ldc + p * kPanelColumns;
      const __m512 value = values[p];
      _mm512_store_ps(to, accumulate ? _mm512_add_ps(_mm512_load_ps(to), value) : value);
    }
  }
}

// Do the blocks lie one behind the other?
template <class B>
static bool in_line(const B* const* blocks, int64_t count, int64_t k) {
  const int64_t each = k / 2 * Line<B>::kStride;
  for (int64_t i = 0; i < count; ++i) {
    if (blocks[i] == nullptr || blocks[i] != blocks[0] + i * each) return false;
  }
  return count > 0;
}

// The same for blocks that do, such as factors of an adapter: streams that are fetched far ahead, past
// their ends too, where the next ones mostly start. The sums are those of columns_of.
template <int R, int P, class B>
static void columns_in_line(const RowsFor<B>& a, const B* block, int64_t k, float* c, int64_t ldc) {
  constexpr int64_t line = Line<B>::kStride;
  constexpr int64_t every = 64 / (line * sizeof(B));  // lines of pairs in one of memory
  const int64_t each = k / 2 * line;
  Sums<R, P, B> sums;
  sums.each_line(k / 2, [&](int chain, int64_t i) __attribute__((always_inline)) {
    __m512i weight[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const B* const from = block + p * each + i * line;
      if (i % every == 0) __builtin_prefetch((const char*)from + kStreamAhead, 0, 3);
      weight[p] = Line<B>::load(from);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512i x = pair_of(a.data + r * a.stride + 2 * i);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sums.add(chain, r, p, x, weight[p]);
    }
  });
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      _mm512_store_ps(c + r * ldc + p * kPanelColumns, sums.value(r, p, a.scale[r]));
    }
  }
}

template <int R, class B>
static void columns_of_all(const RowsFor<B>& a, const B* const* blocks, int64_t count, int64_t k,
                           float* c, int64_t ldc, const B* const* ahead) {
  if (ahead == nullptr && in_line(blocks, count, k)) {
    const int64_t last = count - count % kStreams;
    for (int64_t i = 0; i < last; i += kStreams) {
      columns_in_line<R, kStreams>(a, blocks[i], k, c + i * kPanelColumns, ldc);
    }
    float* const rest = c + last * kPanelColumns;
    switch (count - last) {
      case 1: return columns_in_line<R, 1>(a, blocks[last], k, rest, ldc);
      case 2: return columns_in_line<R, 2>(a, blocks[last], k, rest, ldc);
      case 3: return columns_in_line<R, 3>(a, blocks[last], k, rest, ldc);
      default: return;
    }
  }
  int64_t i = 0;
  for (; i + kStreams <= count; i += kStreams) {
    const bool is_last = i + 2 * kStreams > count;
    columns_of<R, kStreams>(a, blocks + i, k, c + i * kPanelColumns, ldc,
                            is_last ? ahead : blocks + i + kStreams);
  }
  for (; i < count; ++i) columns_of<R, 1>(a, blocks + i, k, c + i * kPanelColumns, ldc, ahead);
}

template <int R, int P, class B>
static int64_t rows_of_some(const RowsFor<B>& a, const Present<B>& blocks, int64_t k, int64_t n,
                            int64_t first, float* c, int64_t ldc, bool accumulate,
                            const B* const* ahead) {
  int64_t j = first;
  for (; j + P * kPanelColumns <= n; j += P * kPanelColumns) {
    rows_of<R, P>(a, blocks, k, n, j, c + j, ldc, accumulate, ahead);
  }
  return j;
}

template <int R, class B>
static void rows_of_all(const RowsFor<B>& a, const Present<B>& blocks, int64_t k, int64_t n,
                        float* c, int64_t ldc, bool accumulate, const B* const* ahead) {
  int64_t j = 0;
  if (R <= 3) {
    j = rows_of_some<R, R <= 3 ? 8 : 4>(a, blocks, k, n, 0, c, ldc, accumulate, ahead);
  }
  j = rows_of_some<R, 4>(a, blocks, k, n, j, c, ldc, accumulate, ahead);
  rows_of_some<R, Line<B>::kPanels>(a, blocks, k, n, j, c, ldc, accumulate, ahead);
}

// Calls `group(rows as a constant, first row, ahead)` for groups of about equal size.
template <class B, class F>
BANYAN_INLINE void in_groups(int64_t rows, const B* const* ahead, F group) {
  const int64_t groups = ceil_divide(rows, kBlockRows);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = rows * g / groups;
    const B* const* next = groups == 1 ? ahead : nullptr;
    switch (rows * (g + 1) / groups - begin) {
      case 1: group(std::integral_constant<int, 1>(), begin, next); break;
      case 2: group(std::integral_constant<int, 2>(), begin, next); break;
      case 3: group(std::integral_constant<int, 3>(), begin, next); break;
      case 4: group(std::integral_constant<int, 4>(), begin, next); break;
      case 5: group(std::integral_constant<int, 5>(), begin, next); break;
      default: group(std::integral_constant<int, 6>(), begin, next); break;
    }
  }
}

// Up to kBlockRows rows of `k` as products with blocks of B take them; `wide` may hold them.
template <class B>
BANYAN_INLINE Rows<bfloat16> taken(const bfloat16* a, int64_t lda, int64_t, int64_t, bfloat16*) {
  return {a, lda, {}};
}

template <class B>
BANYAN_INLINE Rows<int16_t> taken(const bfloat16* a, int64_t lda, int64_t rows, int64_t k,
                                  int16_t* wide) {
  Rows<int16_t> found{wide, k, {}};
  for (int64_t r = 0; r < rows; ++r) found.scale[r] = to_integers(a + r * lda, k, wide + r * k);
  return found;
}

template <class B, class W>
static void columns(const bfloat16* a, int64_t lda, const B* const* blocks, int64_t count,
                    int64_t k, int64_t rows, float* c, int64_t ldc, const B* const* ahead,
                    W* wide) {
  in_groups(rows, ahead, [&](auto size, int64_t row, const B* const* next) {
    const auto all = taken<B>(a + row * lda, lda, size, k, wide);
    columns_of_all<size>(all, blocks, count, k, c + row * ldc, ldc, next);
  });
}

// Long sums of bytes would leave few bits to whole numbers of a row: they are made of its floats.
static void columns(const bfloat16* a, int64_t lda, const int8_t* const* blocks, int64_t count,
                    int64_t k, int64_t rows, float* c, int64_t ldc, const int8_t* const* ahead,
                    int16_t* wide) {
  if (k <= kMostOfIntegers) return columns<int8_t>(a, lda, blocks, count, k, rows, c, ldc, ahead, wide);
  const auto as_floats = reinterpret_cast<const FloatByte* const*>(blocks);
  columns<FloatByte>(a, lda, as_floats, count, k, rows, c, ldc,
                     reinterpret_cast<const FloatByte* const*>(ahead), (bfloat16*)nullptr);
}

template <class B, class W>
static void rows(const bfloat16* a, int64_t lda, const B* const* blocks, int64_t count, int64_t k,
                 int64_t num_rows, int64_t n, float* c, int64_t ldc, bool accumulate,
                 const B* const* ahead, W* wide) {
  constexpr int64_t most = Present<B>::kMost;
  for (int64_t done = 0; done < count; done += most) {
    const int64_t end = least(done + most, count);
    Present<B> found;
    for (int64_t i = done; i < end; i += kStreams) {
      found.take_group(blocks, i, least(i + kStreams, end), done, k);
    }
    in_groups(num_rows, ahead, [&](auto size, int64_t row, const B* const* next) {
      const auto all = taken<B>(a + row * lda + done * k, lda, size, (end - done) * k, wide);
      rows_of_all<size>(all, found, k, n, c + row * ldc, ldc, accumulate || done > 0, next);
    });
  }
}

}  // namespace avx512_bf16

// Whether so many rows go to AMX, block by block.
constexpr bool in_tiles(int64_t rows) {
#if defined(__AMX_BF16__) || defined(BANYAN_AMX_EMULATION)
  return rows >= 16;
#else
  return (void)rows, false;
#endif
}

template <>
inline void block_columns(const DotSession& session, const bfloat16* a, int64_t lda,
                          const bfloat16* const* blocks, int64_t count, int64_t k, int64_t rows,
                          float* c, int64_t ldc, const bfloat16* const* ahead) {
  if (in_tiles(rows)) {
    block_columns_one_by_one(session, a, lda, blocks, count, k, rows, c, ldc, ahead);
  } else {
    avx512_bf16::columns(a, lda, blocks, count, k, rows, c, ldc, ahead, (bfloat16*)nullptr);
  }
}

template <>
inline void block_rows(const DotSession& session, const bfloat16* a, int64_t lda,
                       const bfloat16* const* blocks, int64_t count, int64_t k, int64_t rows,
                       int64_t n, float* c, int64_t ldc, bool accumulate,
                       const bfloat16* const* ahead) {
  if (in_tiles(rows) || n % kPanelColumns != 0) {
    block_rows_one_by_one(session, a, lda, blocks, count, k, rows, n, c, ldc, accumulate, ahead);
  } else {
    avx512_bf16::rows(a, lda, blocks, count, k, rows, n, c, ldc, accumulate, ahead,
                      (bfloat16*)nullptr);
  }
}
#endif

// The same with quantised blocks, multiplied as they are or widened to bfloat16; `wide` has room for
// the wide blocks.
template <class B>
inline void block_columns(const DotSession& session, const bfloat16* a, int64_t lda,
                          const B* const* blocks, int64_t count, int64_t k, int64_t rows,
                          float* c, int64_t ldc, const B* const* ahead, bfloat16* wide) {
#if defined(__AVX512BF16__)
  if (!in_tiles(rows)) {
    avx512_bf16::columns(a, lda, blocks, count, k, rows, c, ldc, ahead,
                         reinterpret_cast<typename avx512_bf16::Line<B>::Row*>(wide));
    return;
  }
#endif
  for (int64_t first = 0; first < count; first += Widened::kMost) {
    const int64_t some = least(Widened::kMost, count - first);
    const Widened widened(blocks + first, some, k, kPanelColumns, wide,
                          ahead == nullptr ? nullptr : ahead + first, false);
    block_columns(session, a, lda, widened.blocks(), some, k, rows, c + first * kPanelColumns, ldc,
                  static_cast<const bfloat16* const*>(nullptr));
  }
}

template <class B>
inline void block_rows(const DotSession& session, const bfloat16* a, int64_t lda,
                       const B* const* blocks, int64_t count, int64_t k, int64_t rows,
                       int64_t n, float* c, int64_t ldc, bool accumulate,
                       const B* const* ahead, bfloat16* wide) {
#if defined(__AVX512BF16__)
  if (!in_tiles(rows) && n % (avx512_bf16::Line<B>::kPanels * kPanelColumns) == 0) {
    avx512_bf16::rows(a, lda, blocks, count, k, rows, n, c, ldc, accumulate, ahead,
                      reinterpret_cast<typename avx512_bf16::Line<B>::Row*>(wide));
    return;
  }
#endif
  const Widened widened(blocks, count, k, n, wide, ahead, true);
  block_rows(session, a, lda, widened.blocks(), count, k, rows, n, c, ldc, accumulate,
             static_cast<const bfloat16* const*>(nullptr));
}

}  // namespace banyan

#endif

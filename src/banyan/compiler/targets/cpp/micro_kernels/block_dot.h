// Matrix products with blocks that lie anywhere: pages of a KV cache, read where they lie.
//
// `blocks` are the addresses; null stands for a block of zeros. With few rows the time is that of
// waiting for memory: `ahead` names the blocks that the next product reads, and they are fetched
// line by line while these are multiplied. Null: nothing is fetched.
#ifndef BANYAN_BLOCK_DOT_H
#define BANYAN_BLOCK_DOT_H

#include <type_traits>

#include "tile_dot.h"

namespace banyan {

// Blocks of int8 as bfloat16, one after the other in `to`; null stays null. `ahead` is fetched.
class Widened {
 public:
  Widened(const int8_t* const* blocks, int64_t count, int64_t elements, bfloat16* to,
          const int8_t* const* ahead) {
    for (int64_t b = 0; b < count && b < kMost; ++b) {
      bfloat16* const out = to + b * elements;
      blocks_[b] = blocks[b] == nullptr ? nullptr : out;
      if (blocks[b] == nullptr) continue;
      const int8_t* const next = ahead != nullptr && ahead[b] != nullptr ? ahead[b] : blocks[b];
      for (int64_t first = 0; first < elements; first += 64) {
        const int64_t end = least(first + 64, elements);
        __builtin_prefetch(next + first, 0, 3);
#pragma omp simd
        for (int64_t i = first; i < end; ++i) {
          const float value = static_cast<float>(blocks[b][i]);
          out[i].bits = static_cast<uint16_t>(bits_of(value) >> 16);
        }
      }
    }
  }

  const bfloat16* const* blocks() const { return blocks_; }

 private:
  static constexpr int64_t kMost = 16;
  const bfloat16* blocks_[kMost];
};

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

// A line of sixteen pairs of int8, exact in bfloat16.
BANYAN_INLINE __m512bh load_line(const int8_t* line) {
  const __m512i low = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)line));
  const __m512i high = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)(line + 16)));
  return _mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(high), _mm512_cvtepi32_ps(low));
}

// Fetches what line `i` of a block is followed by: every line of bfloat16 fills one of the cache.
template <class B>
BANYAN_INLINE void fetch_line(const B* line, int64_t i) {
  if (sizeof(B) == 2 || i % 2 == 0) __builtin_prefetch(line, 0, 3);
}

// R rows against P blocks side by side.
template <int R, int P, bool Fetch, class B>
static void columns_of(const bfloat16* a, int64_t lda, const B* const* blocks, int64_t k, float* c,
                       int64_t ldc, const B* const* ahead) {
  constexpr int64_t line = 2 * kPanelColumns;
  const B* from[P];
  const B* next[P];
  const B* any = nullptr;
  for (int p = 0; p < P; ++p) any = blocks[p] != nullptr ? blocks[p] : any;
  for (int p = 0; p < P; ++p) {
    from[p] = blocks[p] != nullptr ? blocks[p] : any;
    // A missing address fetches what is here already.
    next[p] = Fetch && ahead[p] != nullptr ? ahead[p] : from[p];
  }
  __m512 sum[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sum[r][p] = _mm512_setzero_ps();
  }
  const int64_t pairs = any == nullptr ? 0 : k / 2;
#pragma GCC unroll 1
  for (int64_t i = 0; i < pairs; ++i) {
    __m512bh weight[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) weight[p] = load_line(from[p] + i * line);
    if (Fetch) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) fetch_line(next[p] + i * line, i);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512bh x = broadcast_pair(a + r * lda + 2 * i);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sum[r][p] = _mm512_dpbf16_ps(sum[r][p], x, weight[p]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const __m512 value = blocks[p] != nullptr ? sum[r][p] : _mm512_setzero_ps();
      _mm512_store_ps(c + r * ldc + p * kPanelColumns, value);
    }
  }
}

// A block that is there: which weights it is multiplied with, and what to fetch meanwhile.
template <class B>
struct Block {
  const B* address;
  const B* ahead;
  int64_t weights;
};

// R rows of weights against P panels of all blocks, one after the other.
template <int R, int P, bool Fetch, class B>
static void rows_of(const bfloat16* a, int64_t lda, const Block<B>* blocks, int64_t count,
                    int64_t k, int64_t n, int64_t first, float* c, int64_t ldc, bool accumulate) {
  constexpr int64_t line = 2 * kPanelColumns;
  __m512 sum[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      float* old = c + r * ldc + p * kPanelColumns;
      sum[r][p] = accumulate ? _mm512_load_ps(old) : _mm512_setzero_ps();
    }
  }
  // Four blocks are read side by side: the hardware follows several streams better than one.
  for (int64_t g = 0; g < count; g += 4) {
    const int64_t end = least(g + 4, count);
#pragma GCC unroll 1
    for (int64_t i = 0; i < k / 2; ++i) {
#pragma GCC unroll 1
      for (int64_t b = g; b < end; ++b) {
        const B* from = blocks[b].address + 2 * (i * n + first);
        // The panels of one call cover a stretch of the next block that no other call fetches.
        const B* next = blocks[b].ahead + first * k + i * P * line;
        __m512bh x[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) x[r] = broadcast_pair(a + r * lda + blocks[b].weights + 2 * i);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          const __m512bh weight = load_line(from + p * line);
          if (Fetch) fetch_line(next + p * line, i * P + p);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) sum[r][p] = _mm512_dpbf16_ps(sum[r][p], x[r], weight);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) _mm512_store_ps(c + r * ldc + p * kPanelColumns, sum[r][p]);
  }
}

template <int R, class B>
static void columns_of_all(const bfloat16* a, int64_t lda, const B* const* blocks,
                           int64_t count, int64_t k, float* c, int64_t ldc,
                           const B* const* ahead) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    float* out = c + i * kPanelColumns;
    if (ahead != nullptr) {
      columns_of<R, 4, true>(a, lda, blocks + i, k, out, ldc, ahead + i);
    } else {
      columns_of<R, 4, false>(a, lda, blocks + i, k, out, ldc, ahead);
    }
  }
  for (; i < count; ++i) {
    columns_of<R, 1, false>(a, lda, blocks + i, k, c + i * kPanelColumns, ldc, ahead);
  }
}

template <int R, int P, class B>
static int64_t rows_of_some(const bfloat16* a, int64_t lda, const Block<B>* blocks,
                            int64_t count, int64_t k, int64_t n, int64_t first, float* c,
                            int64_t ldc, bool accumulate, bool fetch) {
  constexpr int64_t wide = P * kPanelColumns;
  int64_t j = first;
  for (; j + wide <= n; j += wide) {
    if (fetch) {
      rows_of<R, P, true>(a, lda, blocks, count, k, n, j, c + j, ldc, accumulate);
    } else {
      rows_of<R, P, false>(a, lda, blocks, count, k, n, j, c + j, ldc, accumulate);
    }
  }
  return j;
}

template <int R, class B>
static void rows_of_all(const bfloat16* a, int64_t lda, const Block<B>* blocks,
                        int64_t count, int64_t k, int64_t n, float* c, int64_t ldc,
                        bool accumulate, bool fetch) {
  int64_t j = 0;
  if (R <= 3) {
    j = rows_of_some<R, R <= 3 ? 8 : 4>(a, lda, blocks, count, k, n, 0, c, ldc, accumulate, fetch);
  }
  j = rows_of_some<R, 4>(a, lda, blocks, count, k, n, j, c, ldc, accumulate, fetch);
  rows_of_some<R, 1>(a, lda, blocks, count, k, n, j, c, ldc, accumulate, fetch);
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

template <class B>
static void columns(const bfloat16* a, int64_t lda, const B* const* blocks, int64_t count,
                    int64_t k, int64_t rows, float* c, int64_t ldc, const B* const* ahead) {
  in_groups(rows, ahead, [&](auto size, int64_t row, const B* const* next) {
    columns_of_all<size>(a + row * lda, lda, blocks, count, k, c + row * ldc, ldc, next);
  });
}

template <class B>
static void rows(const bfloat16* a, int64_t lda, const B* const* blocks, int64_t count, int64_t k,
                 int64_t num_rows, int64_t n, float* c, int64_t ldc, bool accumulate,
                 const B* const* ahead) {
  constexpr int64_t most = 16;
  for (int64_t done = 0; done < count; done += most) {
    Block<B> found[most];
    int64_t here = 0;
    for (int64_t i = done; i < least(done + most, count); ++i) {
      if (blocks[i] == nullptr) continue;
      const bool named = ahead != nullptr && ahead[i] != nullptr;
      found[here++] = Block<B>{blocks[i], named ? ahead[i] : blocks[i], i * k};
    }
    in_groups(num_rows, ahead, [&](auto size, int64_t row, const B* const* next) {
      rows_of_all<size>(a + row * lda, lda, found, here, k, n, c + row * ldc, ldc,
                        accumulate || done > 0, next != nullptr);
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
    avx512_bf16::columns(a, lda, blocks, count, k, rows, c, ldc, ahead);
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
    avx512_bf16::rows(a, lda, blocks, count, k, rows, n, c, ldc, accumulate, ahead);
  }
}
#endif

// The same with blocks of int8, multiplied as bfloat16: exact, so it does not matter when they are
// widened. Few rows do it in registers; more share what is put into `wide`.
inline void block_columns(const DotSession& session, const bfloat16* a, int64_t lda,
                          const int8_t* const* blocks, int64_t count, int64_t k, int64_t rows,
                          float* c, int64_t ldc, const int8_t* const* ahead, bfloat16* wide) {
#if defined(__AVX512BF16__)
  if (rows <= avx512_bf16::kBlockRows) {
    avx512_bf16::columns(a, lda, blocks, count, k, rows, c, ldc, ahead);
    return;
  }
#endif
  const Widened widened(blocks, count, k * kPanelColumns, wide, ahead);
  block_columns(session, a, lda, widened.blocks(), count, k, rows, c, ldc,
                static_cast<const bfloat16* const*>(nullptr));
}

inline void block_rows(const DotSession& session, const bfloat16* a, int64_t lda,
                       const int8_t* const* blocks, int64_t count, int64_t k, int64_t rows,
                       int64_t n, float* c, int64_t ldc, bool accumulate,
                       const int8_t* const* ahead, bfloat16* wide) {
#if defined(__AVX512BF16__)
  if (rows <= avx512_bf16::kBlockRows && n % kPanelColumns == 0) {
    avx512_bf16::rows(a, lda, blocks, count, k, rows, n, c, ldc, accumulate, ahead);
    return;
  }
#endif
  const Widened widened(blocks, count, k * n, wide, ahead);
  block_rows(session, a, lda, widened.blocks(), count, k, rows, n, c, ldc, accumulate,
             static_cast<const bfloat16* const*>(nullptr));
}

}  // namespace banyan

#endif

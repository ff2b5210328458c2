// Linear of quantised weights and activations as they are.
//
// A stretch of k of 64 columns is written out in the first-level cache and multiplied by the kernels
// for floating weights: zeros and scales applied in float32, or, where pairs of bfloat16 are
// multiplied, the whole numbers (exact in bfloat16), whose sums are scaled in float32. Few rows of
// bfloat16 take the weights from tables in registers and stream them once.
#ifndef BANYAN_LINEAR_DEQUANTIZED_H
#define BANYAN_LINEAR_DEQUANTIZED_H

#include "linear_fma.h"
#include "quantized.h"
#if defined(__AVX512BF16__)
#include "linear_avx512_bf16.h"
#endif

namespace banyan {

// Weights as whole numbers of 8 or 4 bits, or as floats with 4 bits of exponent and 3 of mantissa.
enum class Stored { kBytes, kNibbles, kFloats };

namespace quantized {

constexpr int64_t kStretch = 128;  // k written out at once

template <Stored S>
constexpr int64_t kBits = S == Stored::kNibbles ? 4 : 8;

// The weights of place 0..3 of the low or high half of a line; zeros not taken away.
template <Stored S>
BANYAN_INLINE Floats decode(Ints lanes, int place, int half) {
  const Ints byte = lanes >> (8 * place + 4 * half) & (S == Stored::kNibbles ? 15 : 255);
  if (S == Stored::kBytes) return __builtin_convertvector(byte - 128, Floats);
  if (S == Stored::kNibbles) return __builtin_convertvector(byte, Floats);
  // As the upper bits of a float32 whose exponent is 120 too small.
  return (Floats)((byte & 0x7f) << 20 | byte >> 7 << 31) * 0x1p120f;
}

// Zeros of a group; `at` points to those of kLanes columns, or is null.
template <Stored S>
BANYAN_INLINE Floats load_zeros(const uint8_t* at) {
  if (S != Stored::kNibbles) return Floats{};
  if (at == nullptr) return 8.0f - Floats{};
  return __builtin_convertvector(widen(at), Floats);
}

constexpr int kOrder[4] = {0, 2, 1, 3};

// k in [begin, end) as float32 [end - begin][64], scaled; begin starts a line.
template <Stored S>
static void write_out(const Weight& w, int64_t begin, int64_t end, float* out) {
  constexpr int64_t step = 32 / kBits<S>;
  for (int64_t k = begin; k < end; k += step) {
    const uint8_t* line = w.lines + k / step * kLineBytes;
    const int64_t places = k / w.group * kColumns;
    for (int64_t v = 0; v < kColumns / kLanes; ++v) {
      const Ints lanes = *reinterpret_cast<const Ints*>(line + v * kVectorBytes);
      const int64_t column = places + v * kLanes;
      const Floats scale = *reinterpret_cast<const Floats*>(w.scales + column);
      const Floats zero = load_zeros<S>(w.zeros == nullptr ? nullptr : w.zeros + column);
      for (int i = 0; i < least(step, end - k); ++i) {
        Floats* to = reinterpret_cast<Floats*>(out + (k - begin + i) * kColumns + v * kLanes);
        *to = (decode<S>(lanes, kOrder[i % 4], i / 4) - zero) * scale;
      }
    }
  }
}

// All rows against one block of columns, in float32.
template <Stored S, class A>
static void through_floats(const A* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                           int64_t ldc) {
  alignas(64) float values[kStretch / 2 * kColumns];
  constexpr int panels = fma::kPanels;
  const int64_t stretch = w.group < w.k ? least(w.group, kStretch / 2) : kStretch / 2;
  for (int64_t begin = 0; begin < w.k; begin += stretch) {
    const int64_t end = least(w.k, least(begin + stretch, (begin / w.group + 1) * w.group));
    write_out<S>(w, begin, end, values);
    for (int64_t p = 0; p < 4; p += panels) {
      const PanelView<float> view{values + p * 16, kPanelColumns, kColumns};
      fma::panel_group<A, float, panels, 1>(a + begin, lda, view, end - begin, rows, c + p * 16,
                                            ldc, begin > 0);
    }
  }
}

#if defined(__AVX512BF16__)

// Pairs of k in [begin, end) as bfloat16 [(end - begin) / 2][64][2], whole numbers.
template <Stored S>
static void write_pairs(const Weight& w, int64_t begin, int64_t end, bfloat16* out) {
  constexpr int64_t step = 32 / kBits<S>;
  for (int64_t k = begin; k < end; k += step) {
    const uint8_t* line = w.lines + k / step * kLineBytes;
    const int64_t places = k / w.group * kColumns;
    for (int64_t v = 0; v < 4; ++v) {
      const Ints lanes = *reinterpret_cast<const Ints*>(line + v * kVectorBytes);
      const Floats zero =
          load_zeros<S>(w.zeros == nullptr ? nullptr : w.zeros + places + v * kLanes);
      for (int i = 0; i < step; i += 2) {
        // Short enough mantissas: the upper half of a float32 is all of it.
        const Ints even = (Ints)(decode<S>(lanes, kOrder[i % 4], i / 4) - zero);
        const Ints odd = (Ints)(decode<S>(lanes, kOrder[i % 4 + 1], i / 4) - zero);
        Ints* to = reinterpret_cast<Ints*>(out + (k - begin + i) * kColumns + v * 32);
        *to = (even >> 16 & 0xffff) | (odd & static_cast<int32_t>(0xffff0000u));
      }
    }
  }
}

// c[rows][64] (+)= sums[rows][64] * scales.
BANYAN_INLINE void add_scaled(const float* sums, const float* scales, int64_t rows, float* c,
                              int64_t ldc, bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t j = 0; j < kColumns; ++j) {
      const float value = sums[r * kColumns + j] * scales[j];
      c[r * ldc + j] = accumulate ? c[r * ldc + j] + value : value;
    }
  }
}

template <Stored S>
static void through_pairs(const bfloat16* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                          int64_t ldc) {
  alignas(64) bfloat16 values[kStretch * kColumns];
  constexpr int64_t most = avx512_bf16::kRows;
  alignas(64) float sums[most * kColumns];
  const avx512_bf16::View view{values, 2 * kPanelColumns, 2 * kColumns};
  for (int64_t begin = 0; begin < w.k;) {
    const int64_t end = least(w.k, least(begin + kStretch, (begin / w.group + 1) * w.group));
    write_pairs<S>(w, begin, end, values);
    const float* scales = w.scales + begin / w.group * kColumns;
    for (int64_t r = 0; r < rows; r += most) {
      const int64_t count = least(most, rows - r);
      avx512_bf16::near_columns(a + r * lda + begin, lda, view, end - begin, count, kColumns, sums,
                                kColumns, false, nullptr);
      add_scaled(sums, scales, count, c + r * ldc, ldc, begin > 0);
    }
    begin = end;
  }
}

constexpr int64_t kTableRows = 4;      // at once
constexpr int64_t kSomeTableRows = 32;  // up to here weights come from tables, again and again
constexpr int64_t kTableAhead = 4096;  // bytes

// Bytes in the lower halves of 16-bit lanes, 4 bits of exponent and 3 of mantissa, as bfloat16.
BANYAN_INLINE __m512i widen_floats(__m512i bytes, __m512i sign) {
  const __m512i small = _mm512_set_epi16(  // 0 to 7 times 2^-9
      0x3c60, 0x3c40, 0x3c20, 0x3c00, 0x3bc0, 0x3b80, 0x3b00, 0, 0x3c60, 0x3c40, 0x3c20, 0x3c00,
      0x3bc0, 0x3b80, 0x3b00, 0, 0x3c60, 0x3c40, 0x3c20, 0x3c00, 0x3bc0, 0x3b80, 0x3b00, 0, 0x3c60,
      0x3c40, 0x3c20, 0x3c00, 0x3bc0, 0x3b80, 0x3b00, 0);
  const __m512i magnitude = _mm512_and_si512(bytes, _mm512_set1_epi16(0x7f));
  const __m512i normal =
      _mm512_add_epi16(_mm512_slli_epi16(magnitude, 4), _mm512_set1_epi16(120 << 7));
  const __mmask32 tiny = _mm512_testn_epi16_mask(bytes, _mm512_set1_epi16(0x78));
  const __m512i value = _mm512_mask_permutexvar_epi16(normal, tiny, magnitude, small);
  return _mm512_ternarylogic_epi32(value, sign, _mm512_set1_epi16(static_cast<short>(0x8000)),
                                   0xf8);  // value | (sign & 0x8000)
}

// Weights of 16 columns and one line as up to four vectors of pairs; kPair tells which pair of k.
template <Stored S>
struct Tables {
  static constexpr int kVectors = 4;
  static constexpr int kPair[4] = {0, 2, 1, 3};
  __m512i low;

  explicit Tables(bool centred) {
    alignas(64) uint16_t values[32];
    for (int i = 0; i < 32; ++i) {
      values[i] = from_float<bfloat16>(static_cast<float>(i % 16 - (centred ? 8 : 0))).bits;
    }
    low = _mm512_load_si512(values);
  }

  BANYAN_INLINE __m512bh pairs(__m512i line, int i) const {
    return (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(line, 4 * i), low);
  }
};

template <>
struct Tables<Stored::kBytes> {
  static constexpr int kVectors = 4;
  static constexpr int kPair[4] = {0, 0, 1, 1};
  __m512i low, high;

  explicit Tables(bool) {
    alignas(64) uint16_t values[2][32];
    for (int i = 0; i < 32; ++i) {
      values[0][i] = from_float<bfloat16>(static_cast<float>(i % 16)).bits;
      values[1][i] = from_float<bfloat16>(static_cast<float>(i % 16 * 16 - 128)).bits;
    }
    low = _mm512_load_si512(values[0]);
    high = _mm512_load_si512(values[1]);
  }

  BANYAN_INLINE __m512bh pairs(__m512i line, int i) const {
    return (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(line, 4 * i),
                                              i % 2 == 0 ? low : high);
  }
};

template <>
struct Tables<Stored::kFloats> {
  static constexpr int kVectors = 2;
  static constexpr int kPair[2] = {0, 1};

  explicit Tables(bool) {}

  BANYAN_INLINE __m512bh pairs(__m512i line, int i) const {
    const __m512i up = _mm512_slli_epi16(line, 8);
    return (__m512bh)(i == 0 ? widen_floats(line, up)
                             : widen_floats(_mm512_srli_epi16(line, 8), line));
  }
};

// One to four rows against one block of columns; k is a multiple of the k of a line.
template <Stored S, int R>
static void through_tables(const bfloat16* a, int64_t lda, const Weight& w, float* c,
                           int64_t ldc) {
  using Table = Tables<S>;
  constexpr int64_t step = 32 / kBits<S>;
  const bool moved = S == Stored::kNibbles && w.zeros != nullptr;
  const Table table(!moved);
  const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
  const uint8_t* line = w.lines;
  for (int64_t g = 0; g * w.group < w.k; ++g) {
    __m512 sum[R][4];
    __m512 all[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      all[r] = _mm512_setzero_ps();
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) sum[r][p] = _mm512_setzero_ps();
    }
    const int64_t stop = least(w.k, (g + 1) * w.group);
    for (int64_t k = g * w.group; k < stop; k += step, line += kLineBytes) {
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) {
        __builtin_prefetch(line + kTableAhead + 64 * p, 0, 3);
        const __m512i raw = _mm512_load_si512(line + 64 * p);
#pragma GCC unroll 4
        for (int i = 0; i < Table::kVectors; ++i) {
          const __m512bh weights = table.pairs(raw, i);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const bfloat16* pair = a + r * lda + k + 2 * Table::kPair[i];
            sum[r][p] = _mm512_dpbf16_ps(sum[r][p], avx512_bf16::broadcast_pair(pair), weights);
          }
        }
      }
      if (!moved) continue;
      for (int64_t i = 0; i < step; i += 2) {
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          all[r] = _mm512_dpbf16_ps(all[r], avx512_bf16::broadcast_pair(a + r * lda + k + i), ones);
        }
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const int64_t column = g * kColumns + 16 * p;
      const __m512 scale = _mm512_load_ps(w.scales + column);
      const __m512 zero = moved ? (__m512)load_zeros<S>(w.zeros + column) : _mm512_setzero_ps();
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        float* out = c + r * ldc + 16 * p;
        const __m512 value = _mm512_fnmadd_ps(all[r], zero, sum[r][p]);
        _mm512_store_ps(out, g > 0 ? _mm512_fmadd_ps(value, scale, _mm512_load_ps(out))
                                   : _mm512_mul_ps(value, scale));
      }
    }
  }
}

template <Stored S>
static void columns_of(const bfloat16* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                       int64_t ldc) {
  if (rows > kSomeTableRows || w.k % (32 / kBits<S>) != 0) {
    return through_pairs<S>(a, lda, w, rows, c, ldc);
  }
  const int64_t groups = ceil_divide(rows, kTableRows);
  for (int64_t i = 0; i < groups; ++i) {
    const int64_t row = rows * i / groups;
    const bfloat16* x = a + row * lda;
    float* out = c + row * ldc;
    switch (rows * (i + 1) / groups - row) {
      case 1: through_tables<S, 1>(x, lda, w, out, ldc); break;
      case 2: through_tables<S, 2>(x, lda, w, out, ldc); break;
      case 3: through_tables<S, 3>(x, lda, w, out, ldc); break;
      default: through_tables<S, 4>(x, lda, w, out, ldc);
    }
  }
}

#else

template <Stored S>
static void columns_of(const bfloat16* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                       int64_t ldc) {
  through_floats<S>(a, lda, w, rows, c, ldc);
}

#endif

template <Stored S>
static void columns_of(const float* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                       int64_t ldc) {
  through_floats<S>(a, lda, w, rows, c, ldc);
}

}  // namespace quantized

// c[rows][blocks * 64] = rows a times some blocks of a weight.
template <Stored S, class A>
static inline void linear_dequantized(const A* a, int64_t lda, const quantized::Weight& w,
                                      int64_t rows, int64_t blocks, float* c, int64_t ldc) {
  for (int64_t b = 0; b < blocks; ++b) {
    const quantized::Weight part = quantized::from_block<quantized::kBits<S>>(w, b);
    quantized::columns_of<S>(a, lda, part, rows, c + b * quantized::kColumns, ldc);
  }
}

}  // namespace banyan

#endif

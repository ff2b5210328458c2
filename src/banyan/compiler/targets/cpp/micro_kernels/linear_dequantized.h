// Linear of quantised weights and activations as they are.
//
// Where pairs of bfloat16 are multiplied, weights become such in registers: whole numbers, which are
// exact, and whose sums are scaled in float32. Elsewhere a stretch of k of 64 columns is written out in
// float32 in the first-level cache and multiplied by the kernels for floating weights.
#ifndef BANYAN_LINEAR_DEQUANTIZED_H
#define BANYAN_LINEAR_DEQUANTIZED_H

#include "linear_fma.h"
#include "quantized_block.h"

namespace banyan {

// Weights as whole numbers of 8 or 4 bits, or as floats with 4 bits of exponent and 3 of mantissa.
enum class Stored { kBytes, kNibbles, kFloats };

namespace quantized {

constexpr int64_t kStretch = 64;  // k written out at once

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
  alignas(64) float values[kStretch * kColumns];
  constexpr int panels = fma::kPanels;
  const int64_t stretch = w.group < w.k ? least(w.group, kStretch) : kStretch;
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

// Whole numbers in 16-bit lanes as bfloat16: eight bits, so the upper half of a float32 is all of it.
BANYAN_INLINE Ints widen_whole(Ints pairs) {
  const Ints even = (Ints)__builtin_convertvector(pairs << 16 >> 16, Floats);
  const Ints odd = (Ints)__builtin_convertvector(pairs >> 16, Floats);
  return (even >> 16 & 0xffff) | (odd & static_cast<int32_t>(0xffff0000u));
}

// Weights as pairs of bfloat16, zeros taken away. Nibbles come from a table of 32 whole numbers: twice
// -8 to 7, or where a zero is added first, -16 to 15.
template <Stored S>
struct Pairs {
  using Row = bfloat16;
  using Sum = Floats;
  using Weights = __m512bh;
  static constexpr int64_t kStep = 32 / kBits<S>;
  static constexpr int kSlices = kStep / 2;
  static constexpr int kWholeLines = 8;
  static constexpr int kWholeLinesRows = 4;
  bool moved;
  __m512i table;
  __m512i shift[4];  // of each panel: 16 - its zeros

  explicit Pairs(const Weight& w) : moved(S == Stored::kNibbles && w.zeros != nullptr) {
    alignas(64) uint16_t values[32];
    for (int i = 0; i < 32; ++i) {
      values[i] = from_float<bfloat16>(static_cast<float>(moved ? i - 16 : i % 16 - 8)).bits;
    }
    table = _mm512_load_si512(values);
  }

  static BANYAN_INLINE int64_t depth(const Weight& w) { return w.k; }

  BANYAN_INLINE void start_group(const Weight& w, int64_t g) {
    for (int p = 0; moved && p < 4; ++p) {
      const Ints some = 16 - widen(w.zeros + g * kColumns + 16 * p);
      shift[p] = (__m512i)(some | some << 16);
    }
  }

  BANYAN_INLINE Floats start(const Weight&, int64_t, int64_t, const Row*) const { return Floats{}; }

  BANYAN_INLINE __m512bh load(const uint8_t* at, int panel, int slice) const {
    const __m512i line = _mm512_load_si512(at);
    if (S == Stored::kFloats) {
      return (__m512bh)(slice == 0 ? widen_floats(line, _mm512_slli_epi16(line, 8))
                                   : widen_floats(_mm512_srli_epi16(line, 8), line));
    }
    if (S == Stored::kBytes) {
      const __m512i low = _mm512_and_si512(line, _mm512_set1_epi16(255));
      const __m512i bytes = slice == 0 ? low : _mm512_srli_epi16(line, 8);
      return (__m512bh)widen_whole((Ints)_mm512_sub_epi16(bytes, _mm512_set1_epi16(128)));
    }
    __m512i index = _mm512_srli_epi16(line, 4 * slice);
    if (moved) {
      index = _mm512_and_si512(index, _mm512_set1_epi16(15));
      index = _mm512_add_epi16(index, shift[panel]);
    }
    return (__m512bh)_mm512_permutexvar_epi16(index, table);
  }

  // The halves of bytes lie in the order of pairs 0, 2, 1, 3.
  static BANYAN_INLINE int32_t broadcast(const Row* from, int slice) {
    constexpr int order[4] = {0, 2, 1, 3};
    int32_t pair;
    memcpy(&pair, from + 2 * (S == Stored::kNibbles ? order[slice] : slice), sizeof pair);
    return pair;
  }

  static BANYAN_INLINE Floats add(Floats sum, __m512bh weights, int32_t pair) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), weights);
  }

  static BANYAN_INLINE Floats value(Floats sum) { return sum; }

  static BANYAN_INLINE float unit(const Weight&, const Row*) { return 1.0f; }
};

template <Stored S>
static void columns_of(const bfloat16* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                       int64_t ldc) {
  // Rows end at k, so no line may reach beyond it.
  if (w.k % Pairs<S>::kStep == 0) return any_rows<Pairs<S>>(a, lda, w, rows, c, ldc);
  through_floats<S>(a, lda, w, rows, c, ldc);
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

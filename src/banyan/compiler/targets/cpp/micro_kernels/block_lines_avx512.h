// Lines of sixteen pairs, read from blocks of a cache in any format and multiplied with AVX-512:
// bfloat16 as it is, 8-bit floats widened to it, bytes and half bytes with rows of 16-bit integers.
#ifndef BANYAN_BLOCK_LINES_AVX512_H
#define BANYAN_BLOCK_LINES_AVX512_H

#include <immintrin.h>

#include "packed.h"

namespace banyan {
namespace avx512_bf16 {

// Which lines are asked for: the hardware follows bfloat16 fast enough, and asking for more than the
// first lines (`kFirst`) of the next blocks keeps it from doing so; of others all are, every `kEvery`
// lines of pairs. `kStride` elements lie between lines of a block of keys; values are read `kPanels`
// panels of columns at a time.
template <class B>
struct Line;

struct FloatSums {
  using Row = bfloat16;
  using Sum = __m512;
  static BANYAN_INLINE Sum add(Sum sum, __m512i row, __m512i line) {
    return _mm512_dpbf16_ps(sum, (__m512bh)row, (__m512bh)line);
  }
  static BANYAN_INLINE Sum zero() { return _mm512_setzero_ps(); }
  static BANYAN_INLINE Sum both(Sum one, Sum other) { return _mm512_add_ps(one, other); }
  static BANYAN_INLINE __m512 value(Sum sum, float) { return sum; }
};

struct IntegerSums {
  using Row = int16_t;
  using Sum = __m512i;
  static BANYAN_INLINE Sum add(Sum sum, __m512i row, __m512i line) {
    return _mm512_dpwssd_epi32(sum, row, line);
  }
  static BANYAN_INLINE Sum zero() { return _mm512_setzero_si512(); }
  static BANYAN_INLINE Sum both(Sum one, Sum other) { return _mm512_add_epi32(one, other); }
  static BANYAN_INLINE __m512 value(Sum sum, float scale) {
    // The form without a mask starts from an undefined register, which g++ 12 warns of.
    return _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(0xffff, sum), _mm512_set1_ps(scale));
  }
};

// Blocks whose pairs lie side by side: panel p of the pair i of values [k/2][n][2].
template <class B>
struct PairLines {
  static constexpr int64_t kStride = 2 * kPanelColumns;
  static constexpr int kPanels = 1;
  static BANYAN_INLINE const B* panel(const B* block, int64_t i, int64_t n, int64_t first, int p) {
    return block + 2 * (i * n + first + p * kPanelColumns);
  }
};

template <>
struct Line<bfloat16> : FloatSums, PairLines<bfloat16> {
  static constexpr int kFirst = 4;
  static constexpr int64_t kEvery = 0;
  static BANYAN_INLINE __m512i load(const bfloat16* line) { return _mm512_loadu_si512(line); }
  static BANYAN_INLINE __m512i load_values(const bfloat16* block, int64_t i, int64_t n,
                                           int64_t first, int p) {
    return load(panel(block, i, n, first, p));
  }
};

template <>
struct Line<int8_t> : IntegerSums, PairLines<int8_t> {
  static constexpr int kFirst = 0;
  static constexpr int64_t kEvery = 2;
  static BANYAN_INLINE __m512i load(const int8_t* line) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)line));
  }
  static BANYAN_INLINE __m512i load_values(const int8_t* block, int64_t i, int64_t n,
                                           int64_t first, int p) {
    return load(panel(block, i, n, first, p));
  }
};

// A byte that is multiplied as bfloat16, which holds every one exactly.
struct FloatByte {
  int8_t value;
};
constexpr int64_t kMostOfIntegers = 512;  // with more, 16-bit rows of int8 sums keep under 15 bits

template <>
struct Line<FloatByte> : FloatSums, PairLines<FloatByte> {
  static constexpr int kFirst = 0;
  static constexpr int64_t kEvery = 2;
  static BANYAN_INLINE __m512i load(const FloatByte* line) {
    const __m512i pairs = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)line));
    // The forms without a mask start from an undefined register, which g++ 12 warns of.
    constexpr __mmask16 kAll = 0xffff;
    const __m512i lifted = _mm512_maskz_slli_epi32(kAll, pairs, 16);
    const __m512 even = number(_mm512_maskz_srai_epi32(kAll, lifted, 16));
    const __m512 odd = number(_mm512_maskz_srai_epi32(kAll, pairs, 16));
    constexpr __mmask32 kOdd = 0xaaaaaaaa;
    const __m512i low = _mm512_maskz_srli_epi32(kAll, _mm512_castps_si512(even), 16);
    return _mm512_mask_mov_epi16(low, kOdd, _mm512_castps_si512(odd));
  }
  static BANYAN_INLINE __m512 number(__m512i whole) {
    return _mm512_maskz_cvtepi32_ps(0xffff, whole);
  }
  static BANYAN_INLINE __m512i load_values(const FloatByte* block, int64_t i, int64_t n,
                                           int64_t first, int p) {
    return load(panel(block, i, n, first, p));
  }
};

template <>
struct Line<float8_e4m3> : FloatSums, PairLines<float8_e4m3> {
  static constexpr int kFirst = 0;
  static constexpr int64_t kEvery = 2;
  static BANYAN_INLINE __m512i load(const float8_e4m3* line) {
    const __m512i byte = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)line));
    const __m512i size = _mm512_and_si512(byte, _mm512_set1_epi16(0x7f));
    // The exponent has the bias 7 here and 127 there; below 8 the number is size / 512.
    const __m512i moved =
        _mm512_add_epi16(_mm512_slli_epi16(size, 4), _mm512_set1_epi16(120 << 7));
    const __m512i small = _mm512_castsi128_si512(
        _mm_setr_epi16(0, 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60));
    const __mmask32 is_small = _mm512_cmplt_epu16_mask(size, _mm512_set1_epi16(8));
    const __m512i found = _mm512_mask_permutexvar_epi16(moved, is_small, size, small);
    const __m512i sign = _mm512_slli_epi16(byte, 8);
    constexpr int kFoundOrSign = 0xf8;  // found | (sign & 0x8000)
    return _mm512_ternarylogic_epi32(found, sign, _mm512_set1_epi16(-0x8000), kFoundOrSign);
  }
  static BANYAN_INLINE __m512i load_values(const float8_e4m3* block, int64_t i, int64_t n,
                                           int64_t first, int p) {
    return load(panel(block, i, n, first, p));
  }
};

// Two numbers of a row in a byte, 0 to 15 for -8 to 7.
template <>
struct Line<uint8_t> : IntegerSums {
  static constexpr int64_t kStride = kPanelColumns;
  static constexpr int kPanels = 2;
  static constexpr int kFirst = 0;
  static constexpr int64_t kEvery = 4;

  static BANYAN_INLINE __m512i bytes(const uint8_t* at) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)at));
  }
  // Two numbers in the low halves of 16 bits each.
  static BANYAN_INLINE __m512i centred(__m512i pairs) {
    return _mm512_sub_epi16(pairs, _mm512_set1_epi16(8));
  }
  static BANYAN_INLINE __m512i load(const uint8_t* line) {
    const __m512i byte = bytes(line);
    constexpr int kEitherAndMask = 0xa8;  // (a | b) & c
    return centred(_mm512_ternarylogic_epi32(byte, _mm512_slli_epi32(byte, 12),
                                             _mm512_set1_epi32(0x000f000f), kEitherAndMask));
  }
  // The tokens 2 i and 2 i + 1 of a block [16][n/2]: for an even p even columns, and odd ones for the
  // odd p behind it.
  static BANYAN_INLINE __m512i load_values(const uint8_t* block, int64_t i, int64_t n,
                                           int64_t first, int p) {
    const uint8_t* const row = panel(block, i, n, first, p);
    const __m512i both = _mm512_or_si512(bytes(row), _mm512_slli_epi32(bytes(row + n / 2), 16));
    const __m512i half = p % 2 == 0 ? both : _mm512_srli_epi32(both, 4);
    return centred(_mm512_and_si512(half, _mm512_set1_epi32(0x000f000f)));
  }
  static BANYAN_INLINE const uint8_t* panel(const uint8_t* block, int64_t i, int64_t n,
                                            int64_t first, int p) {
    return block + i * n + first / 2 + p / 2 * kPanelColumns;
  }
};

// Columns in order, from panels as `load_values` reads them.
template <class B, int P>
BANYAN_INLINE void in_order(__m512 (&panels)[P]) {
  if (Line<B>::kPanels == 1) return;
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
#pragma GCC unroll 4
  for (int p = 0; p + 1 < P; p += 2) {
    const __m512 even = panels[p], odd = panels[p + 1];
    panels[p] = _mm512_permutex2var_ps(even, low, odd);
    panels[p + 1] = _mm512_permutex2var_ps(even, high, odd);
  }
}

}  // namespace avx512_bf16
}  // namespace banyan

#endif

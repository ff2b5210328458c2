// Layout of quantised weights and activations (README.md), and integer vectors to multiply them.
//
// Weights are bytes or pairs of nibbles in blocks of 64 columns; both are unsigned, with a zero to
// take away: 8 or 128, or one for each group. Four k of a column lie side by side in the order
// 0, 2, 1, 3: even bytes of a line are then one pair of k and odd bytes the next, which is what
// instructions for pairs of bfloat16 want, and those for four bytes do not mind.
#ifndef BANYAN_QUANTIZED_H
#define BANYAN_QUANTIZED_H

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#include "packed.h"

namespace banyan {
namespace quantized {

constexpr int64_t kColumns = 64;         // of one block: four panels side by side
constexpr int64_t kLineBytes = 256;      // of all columns
constexpr int64_t kDepthMultiple = 64;   // k is padded to it

// Some blocks of a weight. `zeros` may be null: the middle of the range.
struct Weight {
  const uint8_t* lines;  // [blocks][k padded * bits / 32][256]
  const float* scales;   // [blocks][groups][64]
  const uint8_t* zeros;  // [blocks][groups][64]
  int64_t k;
  int64_t group;
};

BANYAN_INLINE int64_t padded_depth(int64_t k) { return round_up(k, kDepthMultiple); }

// One group may end in padding, several may not.
BANYAN_INLINE int64_t summed_depth(const Weight& w) {
  return w.k == w.group ? padded_depth(w.k) : w.k;
}

template <int Bits>
BANYAN_INLINE int64_t block_bytes(int64_t k) {
  return padded_depth(k) * kColumns * Bits / 8;
}

// The weight from its block number `block` on.
template <int Bits>
BANYAN_INLINE Weight from_block(const Weight& w, int64_t block) {
  const int64_t places = block * ceil_divide(w.k, w.group) * kColumns;
  return Weight{w.lines + block * block_bytes<Bits>(w.k), w.scales + places,
                w.zeros == nullptr ? nullptr : w.zeros + places, w.k, w.group};
}

// A row of quantised activations: bytes in the order of the weights, padded with zeros; the step of
// the row; the sum of the bytes of each group.
BANYAN_INLINE int64_t row_bytes(int64_t k, int64_t group) {
  const int64_t bytes = padded_depth(k) + round_up(4 * (1 + ceil_divide(k, group)), 64);
  return bytes % 1024 == 0 ? bytes + 64 : bytes;  // rows stay out of each other's cache sets
}

BANYAN_INLINE float row_step(const int8_t* row, int64_t k) {
  float step;
  memcpy(&step, row + padded_depth(k), sizeof step);
  return step;
}

BANYAN_INLINE int32_t row_sum(const int8_t* row, int64_t k, int64_t group) {
  int32_t sum;
  memcpy(&sum, row + padded_depth(k) + 4 + 4 * group, sizeof sum);
  return sum;
}

// Vectors of 32-bit sums, as wide as the target multiplies bytes.
#if defined(__AVX512BW__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
// Rows and panels of 16 columns whose sums stay in registers.
#if defined(__AVX512VNNI__)
constexpr int kRows = 8;
constexpr int kPanels = 2;
#elif defined(__AVX512BW__)
constexpr int kRows = 6;
constexpr int kPanels = 2;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int kRows = 4;
constexpr int kPanels = 1;
#else
constexpr int kRows = 2;
constexpr int kPanels = 1;
#endif
constexpr int kLanes = kVectorBytes / 4;
constexpr int kParts = 16 / kLanes;  // vectors per panel

typedef int32_t Ints __attribute__((vector_size(kVectorBytes), may_alias));
typedef float Floats __attribute__((vector_size(kVectorBytes), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes), may_alias));
typedef uint16_t Shorts __attribute__((vector_size(kVectorBytes), may_alias));
typedef int16_t Signed __attribute__((vector_size(kVectorBytes), may_alias));

#if defined(__ARM_FEATURE_DOTPROD)
constexpr int32_t kMiddleOfBytes = 0;  // bytes are made signed on the way
#else
constexpr int32_t kMiddleOfBytes = 128;
#endif

// Weights of one line: bytes, or the nibbles of one half.
template <int Bits>
BANYAN_INLINE Bytes load_weights(const uint8_t* at, int half) {
  const Bytes bytes = *reinterpret_cast<const Bytes*>(at);
#if defined(__ARM_FEATURE_DOTPROD)
  if (Bits == 8) return bytes ^ 0x80;
#else
  if (Bits == 8) return bytes;
#endif
  return half == 0 ? bytes & 0x0f : (Bytes)((Shorts)bytes >> 4) & 0x0f;
}

// sum += the products of four weights with four activations, in each lane.
BANYAN_INLINE Ints add_products(Ints sum, Bytes weights, int32_t four) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(four));
#elif defined(__ARM_FEATURE_DOTPROD)
  return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)weights,
                         vreinterpretq_s8_s32(vdupq_n_s32(four)));
#else
  const Signed x = (Signed)(four - Ints{});
  const Signed even = (x << 8) >> 8;
  const Signed odd = x >> 8;
  const Signed low = (Signed)((Shorts)weights & 0xff);
  const Signed high = (Signed)((Shorts)weights >> 8);
#if defined(__AVX512BW__)
  sum += (Ints)_mm512_madd_epi16((__m512i)low, (__m512i)even);
  return sum + (Ints)_mm512_madd_epi16((__m512i)high, (__m512i)odd);
#elif defined(__AVX2__)
  sum += (Ints)_mm256_madd_epi16((__m256i)low, (__m256i)even);
  return sum + (Ints)_mm256_madd_epi16((__m256i)high, (__m256i)odd);
#elif defined(__SSE2__)
  sum += (Ints)_mm_madd_epi16((__m128i)low, (__m128i)even);
  return sum + (Ints)_mm_madd_epi16((__m128i)high, (__m128i)odd);
#else
  const Ints first = (Ints)(low * even);  // 255 * 127 fits 16 bits
  const Ints second = (Ints)(high * odd);
  return sum + ((first << 16) >> 16) + (first >> 16) + ((second << 16) >> 16) + (second >> 16);
#endif
#endif
}

// kLanes bytes as integers.
BANYAN_INLINE Ints widen(const uint8_t* bytes) {
#if defined(__AVX512BW__)
  return (Ints)_mm512_maskz_cvtepu8_epi32(
      0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
#else
  Ints wide;
  for (int i = 0; i < kLanes; ++i) wide[i] = bytes[i];
  return wide;
#endif
}

}  // namespace quantized
}  // namespace banyan

#endif

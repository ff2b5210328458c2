// Activations as bytes: each row in steps of its largest magnitude / 127, rounded half to even.
#ifndef BANYAN_QUANTIZE_ROWS_H
#define BANYAN_QUANTIZE_ROWS_H

#include "quantized.h"

namespace banyan {
namespace quantized {

// `count` values divided by `step` as whole numbers, and their sum; adding 1.5 * 2^23 rounds.
template <class A>
BANYAN_INLINE int32_t quantize_some(const A* x, int64_t count, float step, int8_t* out) {
  int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) {
    const float shifted = to_float(x[i]) / step + 12582912.0f;
    const int32_t whole = static_cast<int32_t>(bits_of(shifted) - 0x4b400000u);
    out[i] = static_cast<int8_t>(whole);
    sum += whole;
  }
  return sum;
}

}  // namespace quantized

// One row of k values into row_bytes(k, group) bytes. A row that holds infinity or NaN gives NaN.
// Compiled without knowing its caller: g++ 12 makes no vectors of the loops once it knows the sizes.
template <class A>
__attribute__((noipa)) static void quantize_row(const A* x, int64_t k, int64_t group, int8_t* out) {
  using namespace quantized;
  uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < k; ++i) {
    const uint32_t magnitude = bits_of(to_float(x[i])) & 0x7fffffffu;
    largest = largest > magnitude ? largest : magnitude;
  }
  const float bound = float_from_bits(largest);
  const bool finite = largest < 0x7f800000u;
  const float divisor = finite && bound / 127.0f > 0 ? bound / 127.0f : 1.0f;
  const float step = finite ? divisor : float_from_bits(0x7fc00000u);
  const int64_t depth = padded_depth(k);
  memset(out + depth, 0, row_bytes(k, group) - depth);
  memcpy(out + depth, &step, sizeof step);
  memset(out + k, 0, depth - k);
  for (int64_t g = 0; g * group < k; ++g) {
    const int64_t begin = g * group;
    const int32_t sum =
        quantize_some(x + begin, least(group, k - begin), divisor, out + begin);
    memcpy(out + depth + 4 + 4 * g, &sum, sizeof sum);
  }
  uint32_t* fours = reinterpret_cast<uint32_t*>(out);
#pragma omp simd
  for (int64_t j = 0; j < depth / 4; ++j) {
    const uint32_t four = fours[j];
    fours[j] = (four & 0xff0000ffu) | (four & 0xff00u) << 8 | (four >> 8 & 0xff00u);
  }
}

}  // namespace banyan

#endif

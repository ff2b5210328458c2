// Quantised blocks of a cache as bfloat16, for whatever multiplies those; formats as in `ir.cached`.
//
// Bytes and 8-bit floats lie like bfloat16. Of a byte with two numbers the low half comes first, and
// both belong to one token: keys are [k/2][16], values [k][n/2].
#ifndef BANYAN_WIDENED_BLOCKS_H
#define BANYAN_WIDENED_BLOCKS_H

#include "packed.h"

namespace banyan {

BANYAN_INLINE bfloat16 narrowed(float value) {
  return bfloat16{static_cast<uint16_t>(bits_of(value) >> 16)};
}

BANYAN_INLINE float stored(int8_t number) { return static_cast<float>(number); }
BANYAN_INLINE float stored(float8_e4m3 number) { return to_float(number); }

// A block whose numbers lie as they are wanted; `elements` of them.
template <class B>
inline void widen(const B* from, int64_t elements, bfloat16* to) {
#pragma omp simd
  for (int64_t i = 0; i < elements; ++i) to[i] = narrowed(stored(from[i]));
}

// Two numbers in a byte, both of one row.
inline void widen(const uint8_t* from, int64_t elements, bfloat16* to) {
#pragma omp simd
  for (int64_t i = 0; i < elements / 2; ++i) {
    to[2 * i] = narrowed(static_cast<float>((from[i] & 15) - 8));
    to[2 * i + 1] = narrowed(static_cast<float>((from[i] >> 4) - 8));
  }
}

// Blocks of keys [k/p][16][p] or of values [k/p][n][p].
template <class B>
inline void widen_keys(const B* from, int64_t k, int64_t n, bfloat16* to) {
  widen(from, k * n, to);
}

template <class B>
inline void widen_values(const B* from, int64_t k, int64_t n, bfloat16* to) {
  widen(from, k * n, to);
}

inline void widen_values(const uint8_t* from, int64_t k, int64_t n, bfloat16* to) {
  for (int64_t t = 0; t < k; ++t) {
    bfloat16* const out = to + t / 2 * 2 * n + t % 2;
    const uint8_t* const row = from + t * (n / 2);
#pragma omp simd
    for (int64_t j = 0; j < n / 2; ++j) {
      out[4 * j] = narrowed(static_cast<float>((row[j] & 15) - 8));
      out[4 * j + 2] = narrowed(static_cast<float>((row[j] >> 4) - 8));
    }
  }
}

// Blocks as bfloat16, one after the other; null stays null. `ahead` is fetched.
class Widened {
 public:
  static constexpr int64_t kMost = 64;  // blocks that attention takes at a time

  template <class B>
  Widened(const B* const* blocks, int64_t count, int64_t k, int64_t n, bfloat16* to,
          const B* const* ahead, bool is_values) {
    for (int64_t b = 0; b < count && b < kMost; ++b) {
      bfloat16* const out = to + b * k * n;
      blocks_[b] = blocks[b] == nullptr ? nullptr : out;
      if (blocks[b] == nullptr) continue;
      const B* const next = ahead != nullptr && ahead[b] != nullptr ? ahead[b] : blocks[b];
      for (int64_t line = 0; line < stored_bytes(blocks[b], k * n); line += 64) {
        __builtin_prefetch(reinterpret_cast<const char*>(next) + line, 0, 3);
      }
      if (is_values) {
        widen_values(blocks[b], k, n, out);
      } else {
        widen_keys(blocks[b], k, n, out);
      }
    }
  }

  const bfloat16* const* blocks() const { return blocks_; }

 private:
  const bfloat16* blocks_[kMost];

  template <class B>
  static int64_t stored_bytes(const B*, int64_t elements) {
    return elements * static_cast<int64_t>(sizeof(B));
  }
  static int64_t stored_bytes(const uint8_t*, int64_t elements) { return elements / 2; }
};

}  // namespace banyan

#endif

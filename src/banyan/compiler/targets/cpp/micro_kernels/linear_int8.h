// Linear of quantised weights and quantised activations: products and sums in integers.
//
// The sum of (weight - zero) * x over a group is the sum of weight * x, started at - zero * sum of x.
#ifndef BANYAN_LINEAR_INT8_H
#define BANYAN_LINEAR_INT8_H

#include "quantize_rows.h"
#include "quantized_block.h"

namespace banyan {
namespace quantized {

template <int Bits>
struct Integers {
  using Row = int8_t;
  using Sum = Ints;
  using Weights = Bytes;
  static constexpr int64_t kStep = 32 / Bits;
  static constexpr int kSlices = 8 / Bits;
  // Groups of nibbles are short, so that results want registers too.
  static constexpr int kWholeLines = Bits == 8 ? 12 : 6;
  static constexpr int kWholeLinesRows = Bits == 8 ? 6 : 4;

  explicit Integers(const Weight&) {}

  static BANYAN_INLINE int64_t depth(const Weight& w) { return summed_depth(w); }

  BANYAN_INLINE void start_group(const Weight&, int64_t) {}

  BANYAN_INLINE Ints start(const Weight& w, int64_t g, int64_t column, const Row* row) const {
    constexpr int32_t middle = Bits == 8 ? kMiddleOfBytes : 8;
    const int32_t total = row_sum(row, w.k, g);
    if (Bits == 8 || w.zeros == nullptr) return -middle * total - Ints{};
    return widen(w.zeros + g * kColumns + column) * -total;
  }

  BANYAN_INLINE Bytes load(const uint8_t* at, int, int slice) const {
    return load_weights<Bits>(at, slice);
  }

  static BANYAN_INLINE int32_t broadcast(const Row* from, int slice) {
    int32_t four;
    memcpy(&four, from + 4 * slice, sizeof four);
    return four;
  }

  static BANYAN_INLINE Ints add(Ints sum, Bytes weights, int32_t four) {
    return add_products(sum, weights, four);
  }

  static BANYAN_INLINE Floats value(Ints sum) { return __builtin_convertvector(sum, Floats); }

  static BANYAN_INLINE float unit(const Weight& w, const Row* row) { return row_step(row, w.k); }
};

}  // namespace quantized

// c[rows][blocks * 64] = quantised rows a (lda bytes apart) times some blocks of a weight.
template <int Bits>
static inline void linear_int8(const int8_t* a, int64_t lda, const quantized::Weight& w,
                               int64_t rows, int64_t blocks, float* c, int64_t ldc) {
  for (int64_t b = 0; b < blocks; ++b) {
    quantized::any_rows<quantized::Integers<Bits>>(a, lda, quantized::from_block<Bits>(w, b), rows,
                                                   c + b * quantized::kColumns, ldc);
  }
}

}  // namespace banyan

#endif

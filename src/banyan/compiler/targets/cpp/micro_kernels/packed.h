// Layout of packed weights: panels of sixteen output columns (see README.md).
#ifndef BANYAN_PACKED_H
#define BANYAN_PACKED_H

#include <type_traits>

#include "types.h"

namespace banyan {

constexpr int64_t kPanelColumns = 16;

// How many consecutive k lie next to each other, and to what multiple k is padded.
template <class W>
struct Packing;

template <>
struct Packing<bfloat16> {
  static constexpr int64_t group = 2;
  static constexpr int64_t padding = 32;
};

// Halves are widened one line at a time, so nothing is gained by pairs.
template <>
struct Packing<float16> {
  static constexpr int64_t group = 1;
  static constexpr int64_t padding = 1;
};

template <>
struct Packing<float> {
  static constexpr int64_t group = 1;
  static constexpr int64_t padding = 1;
};

constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

constexpr int64_t ceil_divide(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

BANYAN_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls `work` with a count of Least to Most as a constant, so that loops over it can be unrolled.
template <int Least, int Most, class F>
BANYAN_INLINE void with_constant(int64_t count, F&& work) {
  if constexpr (Least < Most) {
    if (count < Most) return with_constant<Least, Most - 1>(count, work);
  }
  work(std::integral_constant<int, Most>());
}

// Calls `work(rows as a constant, first row, number)` for groups of about equal size, up to Most.
template <int Most, class F>
BANYAN_INLINE void in_groups(int64_t rows, F&& work) {
  const int64_t groups = ceil_divide(rows, Most);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = rows * g / groups;
    with_constant<1, Most>(rows * (g + 1) / groups - begin,
                           [&](auto count) { work(count, begin, g); });
  }
}

// Elements from one panel to the next of a weight with k inputs.
template <class W>
constexpr int64_t panel_elements(int64_t k) {
  return round_up(k, Packing<W>::padding) * kPanelColumns;
}

// Reads row n of the weight W[N, k] back: an embedding that shares its table with the last linear.
template <class W, class Out>
static inline void packed_row(const W* packed, int64_t k, int64_t n, Out* out) {
  constexpr int64_t group = Packing<W>::group;
  const W* column = packed + n / kPanelColumns * panel_elements<W>(k) + n % kPanelColumns * group;
  for (int64_t i = 0; i < k; ++i) {
    out[i] = from_float<Out>(to_float(column[i / group * kPanelColumns * group + i % group]));
  }
}

// Sixteen columns of B as the kernels read them: line i holds the group of k's number i.
template <class W>
struct PanelView {
  const W* base;
  int64_t panel_stride;  // elements from one panel of columns to the next
  int64_t line_stride;   // elements from one group of k to the next
};

}  // namespace banyan

#endif

// Transposed copies: out[c * out_step + r] = in[r * in_step + c], steps in elements.
#ifndef BANYAN_TURN_H
#define BANYAN_TURN_H

#include "types.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace banyan {

template <class T>
inline void turn_plainly(const T* in, int64_t in_step, T* out, int64_t out_step, int64_t rows,
                         int64_t columns) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) out[c * out_step + r] = in[r * in_step + c];
  }
}

// The part that is no whole number of blocks.
template <class T>
inline void turn_rest(const T* in, int64_t in_step, T* out, int64_t out_step, int64_t rows,
                      int64_t columns, int64_t block) {
  const int64_t whole_rows = rows / block * block, whole_columns = columns / block * block;
  turn_plainly(in + whole_rows * in_step, in_step, out + whole_rows, out_step, rows - whole_rows,
               columns);
  turn_plainly(in + whole_columns, in_step, out + whole_columns * out_step, out_step, whole_rows,
               columns - whole_columns);
}

template <class T>
inline void turn(const T* in, int64_t in_step, T* out, int64_t out_step, int64_t rows,
                 int64_t columns) {
  turn_plainly(in, in_step, out, out_step, rows, columns);
}

#if defined(__AVX2__)
BANYAN_INLINE __m128i load_eight(const uint16_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

BANYAN_INLINE void store_eight(uint16_t* to, __m128i value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value);
}

// Two rows become pairs.
inline void turn_pairs(const uint16_t* in, int64_t in_step, uint16_t* out, int64_t columns) {
  int64_t c = 0;
  for (; c + 8 <= columns; c += 8) {
    const __m128i a = load_eight(in + c), b = load_eight(in + in_step + c);
    store_eight(out + 2 * c, _mm_unpacklo_epi16(a, b));
    store_eight(out + 2 * c + 8, _mm_unpackhi_epi16(a, b));
  }
  turn_plainly(in + c, in_step, out + 2 * c, 2, 2, columns - c);
}

// 8 x 8, in three rounds of interleaving.
BANYAN_INLINE void turn_eight(const uint16_t* in, int64_t in_step, uint16_t* out,
                              int64_t out_step) {
  __m128i x[8], y[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) x[i] = load_eight(in + i * in_step);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    y[2 * i] = _mm_unpacklo_epi16(x[i], x[i + 4]);
    y[2 * i + 1] = _mm_unpackhi_epi16(x[i], x[i + 4]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = _mm_unpacklo_epi16(y[i], y[i + 4]);
    x[2 * i + 1] = _mm_unpackhi_epi16(y[i], y[i + 4]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    store_eight(out + 2 * i * out_step, _mm_unpacklo_epi16(x[i], x[i + 4]));
    store_eight(out + (2 * i + 1) * out_step, _mm_unpackhi_epi16(x[i], x[i + 4]));
  }
}

template <>
inline void turn(const uint16_t* in, int64_t in_step, uint16_t* out, int64_t out_step, int64_t rows,
                 int64_t columns) {
  if (rows == 2 && out_step == 2) return turn_pairs(in, in_step, out, columns);
  for (int64_t c = 0; c + 8 <= columns; c += 8) {
    for (int64_t r = 0; r + 8 <= rows; r += 8) {
      turn_eight(in + r * in_step + c, in_step, out + c * out_step + r, out_step);
    }
  }
  turn_rest(in, in_step, out, out_step, rows, columns, 8);
}

// 4 x 4 of 32 bits.
BANYAN_INLINE void turn_four(const float* in, int64_t in_step, float* out, int64_t out_step) {
  __m128 a = _mm_loadu_ps(in), b = _mm_loadu_ps(in + in_step);
  __m128 c = _mm_loadu_ps(in + 2 * in_step), d = _mm_loadu_ps(in + 3 * in_step);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(out, a);
  _mm_storeu_ps(out + out_step, b);
  _mm_storeu_ps(out + 2 * out_step, c);
  _mm_storeu_ps(out + 3 * out_step, d);
}

template <>
inline void turn(const uint32_t* in, int64_t in_step, uint32_t* out, int64_t out_step, int64_t rows,
                 int64_t columns) {
  for (int64_t c = 0; c + 4 <= columns; c += 4) {
    for (int64_t r = 0; r + 4 <= rows; r += 4) {
      turn_four(reinterpret_cast<const float*>(in + r * in_step + c), in_step,
                reinterpret_cast<float*>(out + c * out_step + r), out_step);
    }
  }
  turn_rest(in, in_step, out, out_step, rows, columns, 4);
}
#endif

}  // namespace banyan

#endif

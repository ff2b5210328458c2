// What every generated program begins with: the arguments of one kernel launch, and the arithmetic
// that C++ lacks or defines differently from the graph.
#ifndef BANYAN_PROGRAM_H
#define BANYAN_PROGRAM_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "linear_dequantized.h"
#include "linear_fma.h"
#include "linear_int8.h"
#if defined(__AVX512BF16__)
#include "linear_avx512_bf16.h"
#endif
#if defined(__AMX_BF16__) || defined(BANYAN_AMX_EMULATION)
#include "linear_amx_bf16.h"
#include "linear_amx_int8.h"
#endif
#include "program_abi.h"
#include "block_dot.h"
#include "tile_dot.h"
#include "turn.h"
#include "types.h"
#include "vector_math.h"

namespace {

// The vocabulary of printed kernels; every dialect's header defines it.
using index_t = int64_t;
using bf16_t = banyan::bfloat16;
using f16_t = banyan::float16;
using f8e4m3_t = banyan::float8_e4m3;

BANYAN_INLINE float from_bf16(bf16_t x) { return banyan::to_float(x); }
BANYAN_INLINE float from_f16(f16_t x) { return banyan::to_float(x); }
BANYAN_INLINE float from_f8e4m3(f8e4m3_t x) { return banyan::to_float(x); }
BANYAN_INLINE bf16_t to_bf16(float x) { return banyan::from_float<bf16_t>(x); }
BANYAN_INLINE f16_t to_f16(float x) { return banyan::from_float<f16_t>(x); }
BANYAN_INLINE f8e4m3_t to_f8e4m3(float x) { return banyan::from_float<f8e4m3_t>(x); }

BANYAN_INLINE float banyan_exp(float x) { return banyan::exp(x); }
BANYAN_INLINE float banyan_log(float x) { return banyan::log(x); }
BANYAN_INLINE float banyan_tanh(float x) { return banyan::tanh(x); }
BANYAN_INLINE float banyan_erf(float x) { return banyan::erf(x); }
BANYAN_INLINE float banyan_sin(float x) { return banyan::sin(x); }
BANYAN_INLINE float banyan_cos(float x) { return banyan::cos(x); }
BANYAN_INLINE float banyan_sigmoid(float x) { return banyan::sigmoid(x); }
BANYAN_INLINE float banyan_sqrt(float x) { return sqrtf(x); }
BANYAN_INLINE float banyan_floor(float x) { return floorf(x); }
BANYAN_INLINE float banyan_rsqrt(float x) { return banyan::rsqrt(x); }

// The arguments of one launch.
struct call {
  void* const* scratch;  // [num_threads]
  void* pointers[BANYAN_MOST_POINTERS];
  int64_t sizes[BANYAN_MOST_SIZES];
};

// Runs one kernel for every item of its grid, of which there may be none.
inline int32_t launch(const banyan_runtime* runtime, int64_t items, banyan_task task, call* self) {
  return runtime->parallel_for(runtime->pool, items, task, self);
}

// NaN wins, as in PyTorch. In two steps, because g++ 12 makes branches of one condition.
template <class T>
BANYAN_INLINE T minimum(T a, T b) {
  const T smaller = a < b ? a : b;
  return a != a ? a : smaller;
}

template <class T>
BANYAN_INLINE T maximum(T a, T b) {
  const T larger = a > b ? a : b;
  return a != a ? a : larger;
}

BANYAN_INLINE float floor_divide(float a, float b) { return std::floor(a / b); }

// The machine traps where the lowest number is divided by -1; PyTorch wraps around.
template <class T>
BANYAN_INLINE bool is_minus_one(T b) {
  return std::is_signed<T>::value && b == static_cast<T>(-1);
}

template <class T>
BANYAN_INLINE T floor_divide(T a, T b) {
  if (b == 0) return 0;
  if (is_minus_one(b)) return static_cast<T>(0 - static_cast<uint64_t>(a));
  const T quotient = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? quotient - 1 : quotient;
}

BANYAN_INLINE float floor_modulo(float a, float b) {
  const float rest = std::fmod(a, b);
  return (rest != 0.0f && ((rest < 0.0f) != (b < 0.0f))) ? rest + b : rest;
}

template <class T>
BANYAN_INLINE T floor_modulo(T a, T b) {
  if (b == 0 || is_minus_one(b)) return 0;
  const T rest = a % b;
  return (rest != 0 && ((rest < 0) != (b < 0))) ? rest + b : rest;
}

inline int64_t integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) return base == 1 || (base == -1 && !(exponent & 1)) ? 1 : base == -1 ? -1 : 0;
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

// C[m, n] = A[m, k] * B[k, n], rows `lda`, `ldb`, `ldc` elements apart.
template <class A, class B>
inline void dot_columns(const A* a, int64_t lda, const B* b, int64_t ldb, float* c, int64_t ldc,
                        int64_t m, int64_t n, int64_t k) {
  constexpr int64_t block = 64;
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t first = 0; first < n; first += block) {
      const int64_t width = minimum(block, n - first);
      float sums[block] = {};
      for (int64_t i = 0; i < k; ++i) {
        const float factor = banyan::to_float(a[row * lda + i]);
        const B* line = b + i * ldb + first;
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) sums[j] += factor * banyan::to_float(line[j]);
      }
      for (int64_t j = 0; j < width; ++j) c[row * ldc + first + j] = sums[j];
    }
  }
}

// C[m, n] = A[m, k] * B[n, k]^T.
template <class A, class B>
inline void dot_rows(const A* a, int64_t lda, const B* b, int64_t ldb, float* c, int64_t ldc,
                     int64_t m, int64_t n, int64_t k) {
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      const A* left = a + row * lda;
      const B* right = b + column * ldb;
      float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < k; ++i) sum += banyan::to_float(left[i]) * banyan::to_float(right[i]);
      c[row * ldc + column] = sum;
    }
  }
}

}  // namespace

#endif

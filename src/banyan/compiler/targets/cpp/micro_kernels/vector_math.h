// Elementary functions on float32 that a compiler can turn into vector code: no branches, no calls,
// no tables. Use them in loops under `#pragma omp simd`.
//
// Polynomials are minimax fits of the named function on the reduced range. The stated errors are
// held by tests/compiler/targets/cpp/test_vector_math.py. NaN gives NaN everywhere.
#ifndef BANYAN_VECTOR_MATH_H
#define BANYAN_VECTOR_MATH_H

#include "types.h"

namespace banyan {

// Adding and taking away 1.5 * 2^23 rounds to the nearest integer, kept in the low bits of the sum.
constexpr float kRoundFloat = 12582912.0f;
constexpr double kRoundDouble = 6755399441055744.0;

BANYAN_INLINE float clamp_between(float x, float low, float high) {
  x = x < low ? low : x;  // comparisons with NaN are false, so NaN passes
  return x > high ? high : x;
}

BANYAN_INLINE float with_sign_of(float magnitude, float sign) {
  return float_from_bits((bits_of(magnitude) & 0x7fffffffu) | (bits_of(sign) & 0x80000000u));
}

BANYAN_INLINE float absolute(float x) { return float_from_bits(bits_of(x) & 0x7fffffffu); }

// 2^n for n in [-126, 127].
BANYAN_INLINE float power_of_two(int32_t n) {
  return float_from_bits(static_cast<uint32_t>(n + 127) << 23);
}

// e^x; at most 2 units in the last place, subnormal results included.
BANYAN_INLINE float exp(float x) {
  const float bounded = clamp_between(x, -104.0f, 89.0f);
  const float shifted = bounded * 1.44269504f + kRoundFloat;
  const float n = shifted - kRoundFloat;
  const int32_t exponent = static_cast<int32_t>(bits_of(shifted) - bits_of(kRoundFloat));
  const float high = bounded - n * 0.693359375f;  // ln 2 in two parts, the first of few bits
  const float r = high + n * 2.12194440e-4f;
  float p = 0.00139504892f;
  p = p * r + 0.0083688898f;
  p = p * r + 0.041666206f;
  p = p * r + 0.166665182f;
  p = p * r + 0.5f;
  const float value = (p * r) * r + r + 1.0f;
  // Two factors, because 2^n alone may overflow or be subnormal.
  const int32_t half = exponent >> 1;
  return value * power_of_two(half) * power_of_two(exponent - half);
}

// Natural logarithm; at most 3 units in the last place. log(0) = -inf, log(x < 0) = NaN.
BANYAN_INLINE float log(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const uint32_t bits = bits_of(tiny ? x * 8388608.0f : x);
  const uint32_t offset = bits - 0x3f3504f3u;  // so that the mantissa lies in [sqrt(1/2), sqrt(2))
  const int32_t exponent = (static_cast<int32_t>(offset) >> 23) - (tiny ? 23 : 0);
  const float f = float_from_bits((offset & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float p = -0.0786087364f;
  p = p * f + 0.12883471f;
  p = p * f - 0.131291136f;
  p = p * f + 0.141809613f;
  p = p * f - 0.166244984f;
  p = p * f + 0.200022951f;
  p = p * f - 0.250008106f;
  p = p * f + 0.333333164f;
  const float n = static_cast<float>(exponent);
  const float tail = (p * f) * (f * f) - 0.5f * (f * f) - n * 2.12194440e-4f;
  float result = n * 0.693359375f + (f + tail);
  result = x == float_from_bits(0x7f800000u) ? x : result;
  result = x == 0.0f ? float_from_bits(0xff800000u) : result;
  const float bad = float_from_bits(0x7fc00000u);
  return x >= 0.0f ? result : bad;
}

// 1 / (1 + e^-x); at most 3 units in the last place where the result is a normal number.
BANYAN_INLINE float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// x * sigmoid(x), the activation of gated networks; at most 4 units in the last place.
BANYAN_INLINE float silu(float x) { return x / (1.0f + exp(-x)); }

// Hyperbolic tangent; at most 3 units in the last place.
BANYAN_INLINE float tanh(float x) {
  const float size = absolute(x);
  const float s = x * x;
  float p = -0.00566078024f;
  p = p * s + 0.020601999f;
  p = p * s - 0.0537292287f;
  p = p * s + 0.133313283f;
  p = p * s - 0.333332777f;
  const float small = x + (x * s) * p;
  const float large = 1.0f - 2.0f / (exp(2.0f * size) + 1.0f);
  return size < 0.6f ? small : with_sign_of(large, x);
}

// Error function; absolute error at most 2e-7.
BANYAN_INLINE float erf(float x) {
  const float size = absolute(x);
  const float s = x * x;
  float p = 7.8891193e-05f;
  p = p * s - 0.000802084105f;
  p = p * s + 0.00518953521f;
  p = p * s - 0.0268544443f;
  p = p * s + 0.112836003f;
  p = p * s - 0.37612626f;
  p = p * s + 1.12837911f;
  const float t = size > 4.0f ? 4.0f : size;
  float q = -0.000186777615f;  // -log(1 - erf(t))
  q = q * t + 0.00295188278f;
  q = q * t - 0.0218563359f;
  q = q * t + 0.103148013f;
  q = q * t + 0.638093531f;
  q = q * t + 1.12712252f;
  q = q * t + 0.000332682335f;
  const float large = 1.0f - exp(-q);
  return size < 1.0f ? x * p : with_sign_of(large, x);
}

// sin of (quarter turns + r), r in [-pi/4, pi/4].
BANYAN_INLINE float sine_of_parts(float r, uint32_t quarter) {
  const float s = r * r;
  float sine = 2.71830413e-06f;
  sine = sine * s - 0.000198393347f;
  sine = sine * s + 0.00833332911f;
  sine = sine * s - 0.166666672f;
  sine = r + (r * s) * sine;
  float cosine = -2.72101659e-07f;
  cosine = cosine * s + 2.47995195e-05f;
  cosine = cosine * s - 0.00138888834f;
  cosine = cosine * s + 0.0416666679f;
  cosine = 1.0f - 0.5f * s + (s * s) * cosine;
  const float value = (quarter & 1u) != 0 ? cosine : sine;
  return float_from_bits(bits_of(value) ^ ((quarter & 2u) << 30));
}

// sin(x + quarters * pi/2). The angle is reduced in float64: positions of long texts reach 1e6.
BANYAN_INLINE float shifted_sine(float x, uint32_t quarters) {
  const double shifted = static_cast<double>(x) * 0.63661977236758134 + kRoundDouble;
  const double n = shifted - kRoundDouble;
  const double r = (static_cast<double>(x) - n * 1.5707963267948966) - n * 6.123233995736766e-17;
  uint64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  return sine_of_parts(static_cast<float>(r), static_cast<uint32_t>(bits) + quarters);
}

// Sine and cosine of radians; absolute error at most 2e-7 for |x| <= 1e6.
BANYAN_INLINE float sin(float x) { return shifted_sine(x, 0); }
BANYAN_INLINE float cos(float x) { return shifted_sine(x, 1); }

// 1 / sqrt(x); at most 2 units in the last place.
BANYAN_INLINE float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }

}  // namespace banyan

#endif

// Floating point of 16 and 8 bits as storage; arithmetic is always float32.
#ifndef BANYAN_TYPES_H
#define BANYAN_TYPES_H

#include <stdint.h>
#include <string.h>

#define BANYAN_INLINE inline __attribute__((always_inline))

namespace banyan {

struct bfloat16 {
  uint16_t bits;
};

struct float16 {
  uint16_t bits;
};

// Four bits of exponent, three of fraction; no infinity, NaN is 0x7f.
struct float8_e4m3 {
  uint8_t bits;
};

BANYAN_INLINE float float_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

BANYAN_INLINE uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

BANYAN_INLINE float to_float(float value) { return value; }

BANYAN_INLINE float to_float(bfloat16 value) {
  return float_from_bits(static_cast<uint32_t>(value.bits) << 16);
}

// Exact for every half, subnormals, infinities and NaN included.
BANYAN_INLINE float to_float(float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7fffu) << 13;
  const uint32_t special = magnitude >= (0x7c00u << 13) ? 0x70000000u : 0u;
  // 2^112 moves the exponent from the bias of half to that of float and normalises subnormals.
  const float scaled = float_from_bits(magnitude) * 0x1p112f;
  return float_from_bits((special ? (magnitude | 0x7f800000u) : bits_of(scaled)) | sign);
}

// Exact for every value; 2^120 moves the exponent from the bias 7 to 127 and normalises subnormals.
BANYAN_INLINE float to_float(float8_e4m3 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x80u) << 24;
  const uint32_t magnitude = value.bits & 0x7fu;
  const uint32_t scaled = bits_of(float_from_bits(magnitude << 20) * 0x1p120f);
  return float_from_bits((magnitude == 0x7fu ? 0x7fc00000u : scaled) | sign);
}

template <class T>
BANYAN_INLINE T from_float(float value);

template <>
BANYAN_INLINE float from_float<float>(float value) {
  return value;
}

// Round to nearest even; NaN stays NaN.
template <>
BANYAN_INLINE bfloat16 from_float<bfloat16>(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const uint32_t nan = (bits & 0x7fffffffu) > 0x7f800000u ? 1u : 0u;
  return bfloat16{static_cast<uint16_t>(nan ? ((bits >> 16) | 0x40u) : (rounded >> 16))};
}

// Round to nearest even; overflow becomes infinity, NaN stays NaN.
template <>
BANYAN_INLINE float16 from_float<float16>(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 0.5 puts the last bit of a subnormal half at the last bit of the float.
  const uint32_t small = bits_of(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t finite = magnitude < 0x38800000u ? small : normal;
  const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t half = magnitude >= 0x477ff000u ? special : finite;
  return float16{static_cast<uint16_t>(half | ((bits >> 16) & 0x8000u))};
}

// Round to nearest even; beyond 464 it becomes NaN, as there is no infinity.
template <>
BANYAN_INLINE float8_e4m3 from_float<float8_e4m3>(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20;
  // Adding 2^14 puts the last bit of a subnormal at the last bit of the float.
  const uint32_t small = bits_of(float_from_bits(magnitude) + 0x1p14f) - 0x46800000u;
  const uint32_t finite = magnitude < 0x3c800000u ? small : normal;
  const uint32_t eighth = magnitude > 0x43e80000u ? 0x7fu : finite;
  return float8_e4m3{static_cast<uint8_t>(eighth | ((bits >> 24) & 0x80u))};
}

}  // namespace banyan

#endif

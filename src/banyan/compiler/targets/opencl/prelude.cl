// The vocabulary of printed kernels in OpenCL C 1.2; targets/cpp/headers/program.h has it in C++.
// No optional extension is used: 16-bit floats are stored as their bits and computed as float.

typedef uchar uint8_t;
typedef char int8_t;
typedef int int32_t;
typedef long int64_t;
typedef ulong uint64_t;
typedef ushort bf16_t;
typedef ushort f16_t;
typedef uchar f8e4m3_t;

// T(x) converts, as in C++. A name in its own replacement stays what it is.
#define float(x) ((float)(x))
#define bool(x) ((bool)(x))
#define uint8_t(x) ((uint8_t)(x))
#define int8_t(x) ((int8_t)(x))
#define int32_t(x) ((int32_t)(x))
#define int64_t(x) ((int64_t)(x))
#define uint64_t(x) ((uint64_t)(x))
#define index_t(x) ((index_t)(x))

#define INT8_MIN CHAR_MIN
#define INT8_MAX CHAR_MAX
#define INT32_MIN INT_MIN
#define INT32_MAX INT_MAX
#define INT64_MIN LONG_MIN
#define INT64_MAX LONG_MAX

// NaN wins, as in PyTorch.
#define minimum(a, b) ((a) != (a) || (a) < (b) ? (a) : (b))
#define maximum(a, b) ((a) != (a) || (a) > (b) ? (a) : (b))

#define fabsf fabs
#define powf pow
#define banyan_exp exp
#define banyan_log log
#define banyan_tanh tanh
#define banyan_erf erf
#define banyan_sin sin
#define banyan_cos cos
#define banyan_sqrt sqrt
#define banyan_floor floor
#define banyan_rsqrt rsqrt

#define LANE ((int)get_local_id(0))
#define OVERLOADED __attribute__((overloadable))

float banyan_sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

float from_bf16(bf16_t x) { return as_float((uint)x << 16); }

// Round to nearest even; NaN stays NaN.
bf16_t to_bf16(float x) {
  const uint bits = as_uint(x);
  const uint rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return (bf16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded >> 16);
}

float from_f16(f16_t x) { return vload_half(0, (const half*)&x); }

f16_t to_f16(float x) {
  f16_t bits;
  vstore_half_rte(x, 0, (half*)&bits);
  return bits;
}

float from_f8e4m3(f8e4m3_t x) {
  const uint magnitude = x & 0x7fu;
  // Moved to a float's place the exponent is 120 too small.
  const float value = as_float(magnitude << 20) * 0x1p120f;
  const float found = magnitude == 0x7fu ? NAN : value;
  return x & 0x80u ? -found : found;
}

// Round to nearest even; beyond 464 it becomes NaN, as there is no infinity.
f8e4m3_t to_f8e4m3(float x) {
  const uint bits = as_uint(x);
  const uint magnitude = bits & 0x7fffffffu;
  const uint normal = (magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20;
  // Adding 2^14 puts the last bit of a subnormal at the last bit of the float.
  const uint small = as_uint(as_float(magnitude) + 0x1p14f) - 0x46800000u;
  const uint finite = magnitude < 0x3c800000u ? small : normal;
  const uint eighth = magnitude > 0x43e80000u ? 0x7fu : finite;
  return (f8e4m3_t)(eighth | ((bits >> 24) & 0x80u));
}

#define INTEGER_DIVISION(A, B)                                     \
  OVERLOADED long floor_divide(A a, B b) {                         \
    if (b == 0) return 0;                                          \
    const long quotient = (long)a / b;                             \
    return (long)a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient; \
  }                                                                \
  OVERLOADED long floor_modulo(A a, B b) {                         \
    if (b == 0) return 0;                                          \
    const long rest = (long)a % b;                                 \
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;   \
  }
INTEGER_DIVISION(long, long)
INTEGER_DIVISION(long, int)
INTEGER_DIVISION(int, long)
INTEGER_DIVISION(int, int)

OVERLOADED float floor_divide(float a, float b) { return floor(a / b); }

OVERLOADED float floor_modulo(float a, float b) {
  const float rest = fmod(a, b);
  return rest != 0.0f && (rest < 0.0f) != (b < 0.0f) ? rest + b : rest;
}

long integer_power(long base, long exponent) {
  long result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

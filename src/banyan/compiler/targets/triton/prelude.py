"""Functions that generated kernels call. This text stands at the top of every generated module.

Only what every Triton compiler has: no vendor's library of functions.
"""

import triton
import triton.language as tl

IS_INTERPRETED = tl.constexpr(False)
"""The generated module says it again, for its chip."""


@triton.jit
def _multiplied(a, b):
    return a * b


@triton.jit
def floor_divide(a, b):
    """Division that rounds down; `//` rounds towards 0."""
    quotient = a // b
    inexact = (a - quotient * b) != 0
    return tl.where(inexact & ((a < 0) != (b < 0)), quotient - 1, quotient)


@triton.jit
def floor_modulo(a, b):
    """The rest of `floor_divide`, with the sign of b."""
    rest = a % b
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)


@triton.jit
def tanh(x):
    """The hyperbolic tangent."""
    # Near 0 the quotient cancels; there five terms of the series are exact to a rounding error.
    square = x * x
    series = x * (
        1.0
        + square
        * (-0.333333333 + square * (0.133333333 + square * (-0.053968254 + square * 0.021869489)))
    )
    grown = tl.exp(2.0 * tl.minimum(tl.abs(x), 20.0))
    quotient = 1.0 - 2.0 / (grown + 1.0)
    quotient = tl.where(x < 0.0, -quotient, quotient)
    result = tl.where(tl.abs(x) < 0.25, series, quotient)
    return result + (x - x)


@triton.jit
def erf(x):
    """The error function."""
    # Abramowitz and Stegun (1964), 7.1.26: an absolute error below 1.5e-7.
    size = tl.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * size)
    series = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    result = 1.0 - series * tl.exp(-size * size)
    return tl.where(x < 0.0, -result, result)


@triton.jit
def power(x, y):
    """x to the power y, also of a negative x and a whole y."""
    magnitude = tl.exp2(y * tl.log2(tl.abs(x)))
    is_whole = tl.floor(y) == y
    is_odd = is_whole & (tl.floor(y * 0.5) * 2.0 != y)
    result = tl.where((x < 0.0) & is_odd, -magnitude, magnitude)
    result = tl.where((x < 0.0) & (is_whole == 0), float("nan"), result)
    return tl.where(y == 0.0, 1.0, result)


@triton.jit
def to_bfloat16(x):
    """A float32 rounded to the nearest bfloat16, ties to even."""
    if IS_INTERPRETED:
        # Triton's interpreter cuts the bits off; so they are rounded away before.
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 32767 + ((bits >> 16) & 1)) & -65536
        x = tl.where(tl.abs(x) >= 0.0, bits.to(tl.float32, bitcast=True), x)
    return x.to(tl.bfloat16)


@triton.jit
def from_float8(x):
    """The value of the bits of a float8 e4m3: no infinity, 0x7f is not a number."""
    bits = x.to(tl.int32)
    exponent = (bits >> 3) & 15
    normal = (((exponent + 120) << 23) | ((bits & 7) << 20)).to(tl.float32, bitcast=True)
    small = (bits & 7).to(tl.float32) * 0.001953125
    size = tl.where(exponent == 0, small, normal)
    size = tl.where((bits & 127) == 127, float("nan"), size)
    return tl.where(bits > 127, -size, size)


@triton.jit
def to_float8(x):
    """The bits of the nearest float8 e4m3, ties to even; beyond 464 it is not a number."""
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 2147483647
    normal = (magnitude - 1006632960 + 524287 + ((magnitude >> 20) & 1)) >> 20
    # Adding 2^14 puts the last bit of a small number at the last bit of the float.
    small = magnitude.to(tl.float32, bitcast=True) + 16384.0
    small = small.to(tl.int32, bitcast=True) - 1182793728
    found = tl.where(magnitude < 1015021568, small, normal)
    found = tl.where(magnitude > 1139277824, 127, found)
    return (found | ((bits >> 24) & 128)).to(tl.uint8)

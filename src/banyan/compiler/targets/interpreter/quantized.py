"""Linear layers whose weights are kept as small integers or floats of 8 bits, in NumPy."""

import numpy as np

from banyan.compiler.targets.interpreter.arithmetic import Array, Attributes, Values, wide

MIDDLE = 8
"""What the value 8 of 4-bit weights without zeros stands for: 0."""


def unpack(values: Values, attrs: Attributes) -> Array:
    """Two values of 4 bits from each byte, the low one first."""
    (packed,) = values
    pairs = np.stack([packed & 15, packed >> 4], axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1)


def dequantized(values: Values, attrs: Attributes) -> Array:
    """The weight [N, K] float32 that (weight, scales, zeros?) stand for."""
    weight, scales, *zeros = values
    rows, group = attrs.get("rows", 1), attrs["group"]

    def spread(blocks: Array) -> Array:
        return np.repeat(np.repeat(blocks, rows, axis=0), group, axis=1)[: weight.shape[0]]

    numbers = unpack((weight,), {}) if attrs["format"] == "int4" else weight
    numbers = numbers.astype(np.float32)
    if attrs["format"] == "int4":
        numbers -= spread(zeros[0].astype(np.float32)) if zeros else MIDDLE
    result: Array = numbers * spread(scales)[:, : numbers.shape[1]]
    return result


def quantize_rows(x: Array) -> tuple[Array, Array]:
    """Whole numbers -127 to 127 and the step of each row, both float32."""
    largest = np.max(np.abs(x), axis=-1, keepdims=True, initial=0)
    step = np.where(largest == 0, 1, largest / np.float32(127)).astype(np.float32)
    return np.rint(x / step), step


def quantized_linear(values: Values, attrs: Attributes) -> Array:
    """Rows of x times the transpose of the weight, with float32 sums."""
    x, weight = wide(values[0]), dequantized(values[1:], attrs)
    if attrs["activation"] == "plain":
        return x @ weight.T
    whole, step = quantize_rows(x)
    return (whole @ weight.T) * step

"""What each micro-kernel computes, in NumPy: what the tests hold it to."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.targets.interpreter.quantized import quantize_rows

Array = NDArray[Any]


def linear_meaning(activations: Array, weight: Array) -> Array:
    """Compute [rows, k] x [n, k]^T in float32, the meaning of every linear kernel."""
    product: Array = activations.astype(np.float32) @ weight.astype(np.float32).T
    return product


def dot_meaning(left: Array, right: Array) -> Array:
    """Compute [rows, k] x [k, n] in float32, the meaning of every tile dot."""
    product: Array = left.astype(np.float32) @ right.astype(np.float32)
    return product


def quantized_rows_meaning(activations: Array) -> Array:
    """Whole numbers in [-127, 127] times the step of each row."""
    whole, step = quantize_rows(activations.astype(np.float32))
    product: Array = whole * step
    return product

"""Pointwise, shape, index, reduce and contract operations on NumPy arrays.

Each function takes the argument arrays and the attributes with symbolic sizes already replaced
by numbers. bfloat16 is computed in float32 and rounded after each operation.
"""

from collections.abc import Callable, Mapping
from math import erf, prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from banyan.compiler.ir.types import DType

Array: TypeAlias = npt.NDArray[Any]
Values: TypeAlias = tuple[Array, ...]
Attributes: TypeAlias = Mapping[str, Any]
Operation: TypeAlias = Callable[[Values, Attributes], Any]


def wide(array: Array) -> Array:
    """Floats of 8 and 16 bits as float32; everything else as it is."""
    narrow = (DType.BFLOAT16.numpy, DType.FLOAT16.numpy, DType.FLOAT8_E4M3.numpy)
    return array.astype(np.float32) if array.dtype in narrow else array


def _sigmoid(x: Array) -> Array:
    exponential = np.exp(-np.abs(x))
    positive = 1 / (1 + exponential)
    return np.where(x >= 0, positive, exponential * positive).astype(x.dtype)


_erf = np.vectorize(erf, otypes=[np.float64])

_UNARY: dict[str, Callable[[Array], Array]] = {
    "neg": np.negative,
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "tanh": np.tanh,
    "erf": lambda x: _erf(x) if x.size else x,
    "sin": np.sin,
    "cos": np.cos,
    "sigmoid": _sigmoid,
    "floor": np.floor,
    "not": np.logical_not,
}


def _power(a: Array, b: Array) -> Array:
    """Whole numbers to a negative power: 1 and -1 keep their size, everything else is 0."""
    if a.dtype.kind != "i":
        found: Array = np.power(a, b)
        return found
    grown: Array = np.power(a, np.where(b < 0, b & 1, b))
    return np.where((b < 0) & (np.abs(a) != 1), 0, grown).astype(a.dtype)


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.mod,
    "min": np.minimum,
    "max": np.maximum,
    "pow": _power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}

_REDUCTIONS: dict[str, Callable[..., Array]] = {
    "sum": np.sum,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
}


def pointwise(op: str, values: Values, attrs: Attributes) -> Array:
    """One pointwise operation; the caller rounds to the result's type."""
    if op == "where":
        return np.where(values[0], values[1], values[2])
    if op == "cast":
        return values[0]
    if op in _UNARY:
        return _UNARY[op](wide(values[0]))
    return _BINARY[op](wide(values[0]), wide(values[1]))


def slice_(values: Values, attrs: Attributes) -> Array:
    """Elements start, start + step, ... below stop of one axis."""
    index = [slice(None)] * values[0].ndim
    index[attrs["axis"]] = slice(attrs["start"], attrs["stop"], attrs["step"])
    return values[0][tuple(index)]


def pad(values: Values, attrs: Attributes) -> Array:
    """Constant border on one axis."""
    widths = [(0, 0)] * values[0].ndim
    widths[attrs["axis"]] = (attrs["low"], attrs["high"])
    return np.pad(values[0], widths, constant_values=attrs["value"])


def reduce(values: Values, attrs: Attributes) -> Array:
    """Remove axes by sum, max, min, prod or argmax."""
    axes = attrs["axes"]
    if attrs["kind"] == "argmax":
        moved = np.moveaxis(wide(values[0]), axes, range(-len(axes), 0))
        flat: Array = moved.reshape(*moved.shape[: -len(axes)], prod(moved.shape[-len(axes) :]))
        winners: Array = np.argmax(flat, axis=-1)
        return winners
    x, kind = wide(values[0]), attrs["kind"]
    # The largest of nothing is what every kernel starts from.
    start = {"initial": _start(x.dtype, kind)} if kind in ("max", "min") else {}
    return _REDUCTIONS[kind](x, axis=axes, **start)


def _start(dtype: np.dtype[Any], kind: str) -> Any:
    """What any number replaces as the largest, or as the smallest."""
    if dtype.kind == "f":
        return -np.inf if kind == "max" else np.inf
    if dtype.kind == "b":
        return kind == "min"
    limits = np.iinfo(dtype)
    return limits.min if kind == "max" else limits.max


def unpack_pairs(packed: Array) -> Array:
    """[..., K/p, N, p] -> [..., K, N]."""
    swapped = np.swapaxes(packed, -1, -2)
    return swapped.reshape(*packed.shape[:-3], packed.shape[-3] * packed.shape[-1], -1)


def unpack_panels(panels: Array) -> Array:
    """[..., N/16, K/p, 16, p] -> [..., K, N], padding included."""
    columns = unpack_pairs(panels)
    return np.concatenate(np.split(columns, columns.shape[-3], axis=-3), axis=-1)[..., 0, :, :]


def pack_panels(weight: Array, width: int, row_multiple: int = 32) -> Array:
    """[..., N, K] -> [..., N/16, K/p, 16, p]; N padded to 16, K to `row_multiple`, with zeros."""
    *lead, columns, depth = weight.shape
    grown_n, grown_k = -(-columns // 16) * 16, -(-depth // row_multiple) * row_multiple
    borders = [*((0, 0) for _ in lead), (0, grown_n - columns), (0, grown_k - depth)]
    grown = np.pad(weight, borders)
    split = grown.reshape(*lead, grown_n // 16, 16, grown_k // width, width)
    return np.ascontiguousarray(np.swapaxes(split, -3, -2))


def dot(values: Values, attrs: Attributes) -> Array:
    """Matrix product with float32 sums; see the list of operations for the packed forms."""
    a, b = wide(values[0]), wide(values[1])
    if attrs.get("packed"):
        b = unpack_pairs(b)
    elif attrs.get("transpose_b"):
        b = np.swapaxes(b, -1, -2)
    result: Array = np.matmul(a, b)
    return result


def packed_dot(values: Values, attrs: Attributes) -> Array:
    """Product with a weight kept in panels; padding drops out."""
    a, weight = wide(values[0]), unpack_panels(wide(values[1]))
    result: Array = np.matmul(a, weight[..., : a.shape[-1], : attrs["columns"]])
    return result


def grouped_dot(values: Values, attrs: Attributes) -> Array:
    """Each row times the transposed weight of its expert; weights plain or in stacked panels."""
    x, experts = wide(values[0]), values[2]
    result = np.zeros((x.shape[0], values[1].shape[1]), np.float32)
    for expert in np.unique(experts):
        rows = experts == expert
        result[rows] = x[rows] @ wide(values[1][expert]).T
    return result


ARITHMETIC: dict[str, Operation] = {
    "reshape": lambda values, attrs: values[0].reshape(attrs["shape"]),
    "permute": lambda values, attrs: values[0].transpose(attrs["order"]),
    "expand": lambda values, attrs: np.broadcast_to(values[0], attrs["shape"]),
    "slice": slice_,
    "concat": lambda values, attrs: np.concatenate(values, axis=attrs["axis"]),
    "pad": pad,
    "gather": lambda values, attrs: np.take(values[0], values[1], axis=attrs["axis"]),
    "take_along": lambda values, attrs: np.take_along_axis(values[0], values[1], attrs["axis"]),
    "reduce": reduce,
    "cumsum": lambda values, attrs: np.cumsum(
        wide(values[0]), axis=attrs["axis"], dtype=wide(values[0]).dtype
    ),
    "dot": dot,
    "packed_dot": packed_dot,
    "grouped_dot": grouped_dot,
}
"""The meaning of every operation here but the pointwise ones."""

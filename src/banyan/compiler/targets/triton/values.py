"""Values of a printed kernel, and the text of types, numbers and sizes."""

import math
from dataclasses import dataclass, replace

from banyan.compiler.ir.symbols import Dim, Expression, lower_bound, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.text import Name, size_text
from banyan.compiler.targets.triton.layouts import Layout

STORED = {
    DType.FLOAT32: "float32",
    DType.BFLOAT16: "bfloat16",
    DType.FLOAT16: "float16",
    DType.FLOAT8_E4M3: "uint8",
    DType.INT64: "int64",
    DType.INT32: "int32",
    DType.INT8: "int8",
    DType.UINT8: "uint8",
    DType.BOOL: "int1",
}
"""Triton's name of each type in memory; floats of 8 bits are decoded, as few chips know them."""

FLOATS = frozenset({"float32", "bfloat16", "float16"})
INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)
INTEGERS = {"int64": INT64, "int32": INT32, "int8": (-128, 127), "uint8": (0, 255), "int1": (0, 1)}

Bounds = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Value:
    """A value that the text can name.

    Attributes:
        text: an expression, usually a variable.
        kind: its Triton type: floats as they were loaded or else float32; 64-bit integers as
            int32 where `bounds` allow.
        layout: how its tile lies in the block; a scalar if no dim has axes.
        bounds: an integer lies between them.
        number: its value, for a constant.
        is_clear: the padding holds zeros.
    """

    text: str
    kind: str
    layout: Layout = ()
    bounds: Bounds = INT64
    number: bool | int | float | None = None
    is_clear: bool = False

    @property
    def is_block(self) -> bool:
        """False for a scalar, which may stand for a tile of equal values."""
        return any(self.layout)

    def as_kind(self, kind: str) -> "Value":
        """The value converted; numbers follow the type of what they meet."""
        if kind == self.kind:
            return self
        if self.number is not None:
            return replace(self, kind=kind)
        text = f"{self.text}.to(tl.{kind})"
        if kind == "int1":
            text = f"({self.text} != 0)"
        elif kind == "bfloat16":
            text = f"to_bfloat16({self.wide.text})"
        return replace(self, text=text, kind=kind)

    @property
    def wide(self) -> "Value":
        """Floats as float32, in which they are computed."""
        return self.as_kind("float32") if self.kind in FLOATS else self


def integer_kind(bounds: Bounds) -> str:
    """The narrowest type in which 64-bit integers within `bounds` are computed."""
    return "int32" if INT32[0] <= bounds[0] and bounds[1] <= INT32[1] else "int64"


def number(value: object, dtype: DType, rank: int = 0) -> Value:
    """A constant."""
    if not isinstance(value, bool | int | float):
        raise TypeError("a constant is a number")
    layout: Layout = ((),) * rank
    if dtype.is_floating:
        rounded = float(dtype.numpy.type(value))
        text = repr(rounded) if math.isfinite(rounded) else f'float("{rounded}")'
        return Value(text, "float32", layout, number=rounded)
    if dtype is DType.BOOL:
        return Value(str(bool(value)), "int1", layout, (int(value), int(value)), bool(value))
    whole = int(value)
    kind = integer_kind((whole, whole)) if dtype is DType.INT64 else STORED[dtype]
    return Value(str(whole), kind, layout, (whole, whole), whole)


def dim_bounds(dim: Dim) -> Bounds:
    """What a size lies between."""
    return lower_bound(dim), upper_bound(dim)


def dim_text(dim: Dim, name: Name) -> str:
    """The Python text of a size, fit to be multiplied; `name` gives the variable of a symbol."""
    text = size_text(dim, name, "({} // {})", "floor_divide({}, {})")
    is_product = isinstance(dim, Expression) and len(dim.terms) == 1
    return f"({text})" if is_product and " " in text else text

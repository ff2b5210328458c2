"""Element types, and the type of a value: shape, element type, and where it lives."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import ml_dtypes
import numpy as np

from banyan.compiler.ir.symbols import Dim, Symbol, product, symbols_in, upper_bound


class DType(Enum):
    """An element type; the value is its name in printed graphs."""

    FLOAT32 = "f32"
    BFLOAT16 = "bf16"
    FLOAT16 = "f16"
    FLOAT8_E4M3 = "f8e4m3"
    INT64 = "i64"
    INT32 = "i32"
    INT8 = "i8"
    UINT8 = "u8"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy type that holds one element."""
        return _NUMPY_TYPES[self]

    @property
    def num_bytes(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @property
    def is_floating(self) -> bool:
        """True for the types that hold fractions."""
        return self.numpy.kind not in "iub"


_NUMPY_TYPES: dict[DType, np.dtype[np.generic]] = {
    DType.FLOAT32: np.dtype(np.float32),
    DType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DType.FLOAT16: np.dtype(np.float16),
    DType.FLOAT8_E4M3: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.INT64: np.dtype(np.int64),
    DType.INT32: np.dtype(np.int32),
    DType.INT8: np.dtype(np.int8),
    DType.UINT8: np.dtype(np.uint8),
    DType.BOOL: np.dtype(np.bool_),
}


class Space(Enum):
    """Where a value lives."""

    TENSOR = "tensor"  # in device memory, whole
    TILE = "tile"  # inside one kernel, near the arithmetic


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape (sizes may be symbolic), element type and space of one value."""

    shape: tuple[Dim, ...]
    dtype: DType
    space: Space = Space.TENSOR

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.shape)

    @property
    def num_elements(self) -> Dim:
        """Product of the shape."""
        return product(self.shape)

    @property
    def num_bytes(self) -> Dim:
        """Bytes of all elements."""
        return self.num_elements * self.dtype.num_bytes

    @property
    def maximum_bytes(self) -> int:
        """Bytes at the upper bound of every symbol."""
        return upper_bound(self.num_bytes)

    def symbols(self) -> tuple[Symbol, ...]:
        """Symbols of the shape, without repeats, in order of appearance."""
        return tuple(dict.fromkeys(s for dim in self.shape for s in symbols_in(dim)))

    def __str__(self) -> str:
        mark = "" if self.space is Space.TENSOR else "tile "
        return f"{mark}{self.dtype.value}[{', '.join(str(d) for d in self.shape)}]"


@dataclass(frozen=True, slots=True)
class TupleType:
    """The type of a node with several results; read them with `get`."""

    elements: tuple[TensorType, ...]

    def __str__(self) -> str:
        return f"({', '.join(str(e) for e in self.elements)})"


ValueType: TypeAlias = TensorType | TupleType

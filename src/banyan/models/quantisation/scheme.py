"""How one linear layer keeps its weight in our graphs."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from banyan.compiler.targets.interpreter.quantized import dequantized

FORMATS = ("int8", "int4", "fp8")
ACTIVATIONS = ("plain", "int8")

STORED = {
    "int8": np.dtype(np.int8),
    "int4": np.dtype(np.uint8),
    "fp8": np.dtype(ml_dtypes.float8_e4m3fn),
}
"""Element type of the weight; two values of "int4" share a byte, the low nibble first."""


@dataclass(frozen=True, slots=True)
class LinearScheme:
    """One quantised linear layer; the fields are those of the operation `quantized_linear`.

    Attributes:
        format: "int8", "int4" or "fp8".
        group: weights of one row that share a scale; the whole width for one scale a row.
        rows: rows that share scales.
        activation: "plain", or "int8" to round the rows that come in.
        zeros: 4-bit weights carry a zero for each group; without one it is 8.
        ordered: the inputs are taken in an order of the layer's own first.
    """

    format: str
    group: int
    rows: int = 1
    activation: str = "plain"
    zeros: bool = False
    ordered: bool = False

    def shapes(self, columns: int, depth: int) -> dict[str, tuple[int, ...]]:
        """The shape of each part of a [columns, depth] weight, by the part's name."""
        blocks = (-(-columns // self.rows), -(-depth // self.group))
        weight = (columns, depth // 2) if self.format == "int4" else (columns, depth)
        found: dict[str, tuple[int, ...]] = {"weight": weight, "scales": blocks}
        if self.zeros:
            found["zeros"] = blocks
        if self.ordered:
            found["order"] = (depth,)
        return found


Parts = dict[str, NDArray[np.generic]]


def dequantize(scheme: LinearScheme, parts: Parts) -> NDArray[np.float32]:
    """The float32 weight [columns, depth] that the parts of a layer stand for."""
    values = [parts["weight"], parts["scales"]]
    values += [parts["zeros"]] if scheme.zeros else []
    attrs = {"format": scheme.format, "group": scheme.group, "rows": scheme.rows}
    weight: NDArray[np.float32] = dequantized(tuple(values), attrs)
    if scheme.ordered:
        inverse = np.argsort(parts["order"])
        weight = weight[:, inverse]
    return weight

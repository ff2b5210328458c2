"""Quantised linear layers of every format, with arrays to run them on."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType

ROWS = symbol("rows", 1, 64)
COLUMNS, DEPTH = 20, 64


@dataclass(frozen=True)
class Case:
    """One layer of `COLUMNS` outputs and `DEPTH` inputs."""

    layout: str
    group: int
    activation: str = "plain"
    dtype: DType = DType.FLOAT32
    zeros: bool = False
    rows: int = 1

    def __str__(self) -> str:
        zeros = "-zeros" if self.zeros else ""
        kind = f"{self.layout}-{self.group}x{self.rows}"
        return f"{kind}-{self.activation}-{self.dtype.value}{zeros}"


CASES = (
    Case("int8", 64),
    Case("int8", 64, "int8"),
    Case("int8", 16, "int8", DType.BFLOAT16),
    Case("int4", 32),
    Case("int4", 32, "int8", zeros=True),
    Case("int4", 64, "plain", DType.BFLOAT16, zeros=True),
    Case("fp8", 64),
    Case("fp8", 48, rows=8),
    Case("fp8", 64, "int8", DType.BFLOAT16, rows=20),
)
"""Groups of one row, of several rows, groups and rows that end early."""


def linear_graph(
    case: Case, leading: tuple[Any, ...] = (ROWS,), columns: int = COLUMNS, depth: int = DEPTH
) -> Graph:
    """out = the quantised linear of x."""
    builder = Builder()
    blocks = -(-columns // case.rows), -(-depth // case.group)
    weights = {
        "int8": TensorType((columns, depth), DType.INT8),
        "int4": TensorType((columns, depth // 2), DType.UINT8),
        "fp8": TensorType((columns, depth), DType.FLOAT8_E4M3),
    }
    inputs = [
        builder.input("x", TensorType((*leading, depth), case.dtype)),
        builder.input("layer.weight", weights[case.layout], "weight"),
        builder.input("layer.scales", TensorType(blocks, DType.FLOAT32), "weight"),
    ]
    if case.zeros:
        inputs.append(builder.input("layer.zeros", TensorType(blocks, DType.UINT8), "weight"))
    node = builder.add(
        "quantized_linear",
        inputs,
        format=case.layout,
        group=case.group,
        rows=case.rows,
        activation=case.activation,
        dtype=case.dtype,
    )
    return Graph("quantised", tuple(inputs), (Output("out", node),))


def arrays(case: Case, leading: tuple[int, ...] = (5,)) -> dict[str, Any]:
    """Random weights and activations; the second row of activations is zero."""
    random = np.random.default_rng(8)
    blocks = -(-COLUMNS // case.rows), -(-DEPTH // case.group)
    x = random.normal(size=(*leading, DEPTH)).astype(np.float32)
    x[..., 1, :] = 0
    found: dict[str, Any] = {"x": x.astype(case.dtype.numpy)}
    found["layer.scales"] = random.uniform(0.01, 0.1, blocks).astype(np.float32)
    if case.layout == "int8":
        found["layer.weight"] = random.integers(-127, 128, (COLUMNS, DEPTH)).astype(np.int8)
    elif case.layout == "int4":
        found["layer.weight"] = random.integers(0, 256, (COLUMNS, DEPTH // 2)).astype(np.uint8)
    else:
        weight = random.normal(size=(COLUMNS, DEPTH)).astype(ml_dtypes.float8_e4m3fn)
        found["layer.weight"] = weight
    if case.zeros:
        found["layer.zeros"] = random.integers(0, 16, blocks).astype(np.uint8)
    return found

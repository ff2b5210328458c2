"""A captured graph with every role: arguments, packed and plain weights, a state, two outputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType

T = symbol("T", 1, 32)
F32 = DType.FLOAT32


def mixed_graph() -> Graph:
    """y = x @ w.T + bias; total' = total + x; the state `total` has x's shape."""
    builder = Builder()
    x = builder.input("x", TensorType((T, 8), F32))
    weight = builder.input("layer.weight", TensorType((20, 8), F32), "weight")
    bias = builder.input("layer.bias", TensorType((20,), F32), "weight")
    total = builder.input("total", TensorType((T, 8), F32), "state")
    product = builder.add("dot", (x, weight), transpose_b=True, dtype=F32)
    grown = builder.add("expand", (bias,), shape=(T, 20))
    y = builder.add("add", (product, grown))
    new = builder.add("add", (total, x))
    outputs = (Output("y", y), Output("total.new", new, "total"), Output("sum", new))
    return Graph("mixed", (x, weight, bias, total), outputs)


class Weights:
    """A source of weights that notes what was read and released."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = dict(arrays)
        self.events: list[str] = []

    def names(self) -> list[str]:
        return list(self.arrays)

    def read(self, name: str) -> Any:
        self.events.append(f"read {name}")
        return self.arrays[name]

    def release(self, name: str) -> None:
        self.events.append(f"release {name}")


def mixed_weights() -> Weights:
    random = np.random.default_rng(3)
    return Weights(
        {
            "layer.weight": random.standard_normal((20, 8)).astype(np.float32),
            "layer.bias": random.standard_normal(20).astype(np.float16),
        }
    )

"""Reductions inside a kernel start from a value that never wins."""

from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.passes.tile import tile
from banyan.compiler.tiling.options import TileOptions
from tests.compiler.comparing import assert_same_results


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("u8", np.array([[3, 130, 255], [4, 140, 0]], np.uint8)),
        ("bool", np.array([[True, False, False], [True, True, False]])),
        ("i8", np.array([[-128, 5, 127], [-3, -7, 127]], np.int8)),
    ],
)
def test_an_extreme_of_rows_is_one_of_their_elements(kind: str, dtype: str, values: Any) -> None:
    graph = parse_graph(
        f"""graph g {{
          %0 = input {{name="x", packing=none, role="argument"}} : {dtype}[2, 3]
          %1 = reduce %0 {{axes=(0,), kind="{kind}"}} : {dtype}[3]
          output y = %1
        }}"""
    )
    assert_same_results(graph, tile(graph), {"x": values})


LONG = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[2, 7]
  %1 = reduce %0 {axes=(1), kind="KIND"} : DTYPE[2]
  output y = %1
}
"""


@pytest.mark.parametrize("kind", ["sum", "max", "min", "prod", "argmax"])
def test_rows_longer_than_a_tile_are_reduced_in_pieces(kind: str) -> None:
    dtype = "i64" if kind == "argmax" else "f32"
    graph = parse_graph(LONG.replace("KIND", kind).replace("DTYPE", dtype))
    lowered = lower(graph, TileOptions(longest_tile=3))
    assert "loop" in print_graph(lowered)
    x = np.array([[1, 5, 2, 5, 0, 5, -1], [-3, -2, -9, -1, -1, -4, -6]], np.float32)
    assert_same_results(graph, lowered, {"x": x})

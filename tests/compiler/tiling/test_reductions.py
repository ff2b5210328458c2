"""Reductions inside a kernel start from a value that never wins."""

from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.passes.tile import tile
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

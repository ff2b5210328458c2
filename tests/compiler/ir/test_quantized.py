from typing import Any

import pytest

from banyan.compiler.ir.operations import infer_type
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import GraphError
from tests.compiler.quantized_graphs import CASES, Case, linear_graph

F32, I8, U8, F8 = DType.FLOAT32, DType.INT8, DType.UINT8, DType.FLOAT8_E4M3


def infer(dtypes: list[DType], shapes: list[tuple[int, ...]], **attrs: Any) -> Any:
    types = tuple(TensorType(s, d) for s, d in zip(shapes, dtypes, strict=True))
    chosen = {"format": "int8", "group": 8, "activation": "plain", "dtype": F32, **attrs}
    return infer_type("quantized_linear", types, chosen)


def test_the_result_has_a_column_for_each_row_of_the_weight() -> None:
    assert infer([F32, I8, F32], [(2, 3, 16), (5, 16), (5, 2)]).shape == (2, 3, 5)
    assert infer([F32, U8, F32], [(3, 16), (5, 8), (5, 2)], format="int4").shape == (3, 5)
    blocks = infer([F32, F8, F32], [(3, 20), (5, 20), (2, 3)], format="fp8", rows=4)
    assert blocks.shape == (3, 5)


@pytest.mark.parametrize(
    ("dtypes", "shapes", "attrs", "message"),
    [
        ([F32, I8, F32], [(3, 16), (5, 16), (5, 2)], {"group": 6}, "groups of 6 do not divide"),
        ([F32, I8, F32], [(3, 16), (5, 16), (5, 3)], {}, r"scales must be f32\[5, 2\]"),
        ([F32, U8, F32], [(3, 16), (5, 16), (5, 2)], {}, "an int8 weight is i8"),
        ([F32, I8, F32], [(3, 15), (5, 16), (5, 2)], {}, "contracted sizes differ"),
        ([F32, I8, F32], [(3, 16), (5, 16), (5, 2)], {"format": "int3"}, "format is one of int8"),
        ([F32, I8, F32], [(3, 16), (5, 16), (5, 2)], {"activation": "fp8"}, "activation is one"),
        ([F32, I8, F32, U8], [(3, 16), (5, 16), (5, 2), (5, 2)], {}, "for int4 only"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    dtypes: list[DType], shapes: list[tuple[int, ...]], attrs: dict[str, Any], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        infer(dtypes, shapes, **attrs)


def test_unpack_takes_bytes_only() -> None:
    with pytest.raises(GraphError, match="takes u8"):
        infer_type("unpack", (TensorType((4,), I8),), {"bits": 4})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_printed_quantised_linear_reads_back(case: Case) -> None:
    text = print_graph(linear_graph(case))
    assert print_graph(parse_graph(text)) == text

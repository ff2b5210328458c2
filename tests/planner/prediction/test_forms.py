"""Names that rates are kept under."""

import pytest

from banyan.compiler.ir.types import DType
from banyan.foundation.errors import InputError
from banyan.planner.prediction.forms import linear_form, plain_form


def test_element_types_have_the_names_of_the_shape_of_a_model() -> None:
    assert plain_form(DType.BFLOAT16) == "bfloat16"
    assert plain_form(DType.UINT8) == "int4"
    with pytest.raises(InputError, match="element type bool have no rate; known are"):
        plain_form(DType.BOOL)


@pytest.mark.parametrize(
    ("layout", "activation", "name"),
    [
        ("int8", "int8", "int8"),
        ("int8", "plain", "int8:plain"),
        ("int4", "plain", "int4"),
        ("int4", "int8", "int4:int8"),
        ("fp8", "plain", "float8"),
        ("fp8", "int8", "float8:int8"),
    ],
)
def test_rows_that_are_rounded_in_another_way_are_named(
    layout: str, activation: str, name: str
) -> None:
    assert linear_form(layout, activation) == name

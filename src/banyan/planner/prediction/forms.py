"""The names that rates are kept under: how weights and cached keys and values are stored.

They are those of `planner.model_shape`. Weights whose rows are rounded in another way than is usual
for their form have a name with a colon.
"""

from collections.abc import Mapping

from banyan.compiler.ir.types import DType
from banyan.foundation.errors import InputError

PLAIN_FORMS: Mapping[DType, str] = {
    DType.FLOAT32: "float32",
    DType.BFLOAT16: "bfloat16",
    DType.FLOAT16: "float16",
    DType.FLOAT8_E4M3: "float8",
    DType.INT8: "int8",
    DType.UINT8: "int4",
}
"""By element type; unsigned bytes hold two numbers of 4 bits."""

_USUAL_ROWS = {"int8": "int8", "int4": "plain", "fp8": "plain"}


def plain_form(dtype: DType) -> str:
    """The form of weights, keys or values of an element type.

    Raises:
        InputError: no model keeps such numbers.
    """
    found = PLAIN_FORMS.get(dtype)
    if found is None:
        known = ", ".join(kind.value for kind in PLAIN_FORMS)
        raise InputError(f"weights of element type {dtype.value} have no rate; known are {known}")
    return found


def linear_form(layout: str, activation: str) -> str:
    """The form of a quantised linear: `format` and `activation` of the operation."""
    name = "float8" if layout == "fp8" else layout
    return name if _USUAL_ROWS.get(layout) == activation else f"{name}:{activation}"

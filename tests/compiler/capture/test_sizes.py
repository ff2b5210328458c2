import pytest
import sympy  # type: ignore[import-untyped]
import torch
from torch.utils._sympy.functions import FloorDiv, Mod

from banyan.compiler.capture.sizes import SizeTable
from banyan.compiler.ir.symbols import evaluate, symbol
from banyan.foundation.errors import GraphError
from tests.compiler.capture.capturing import captured

S = sympy.Symbol("s0", integer=True, positive=True)
TABLE = SizeTable({S: symbol("n", 1, 100)})


@pytest.mark.parametrize(
    ("expression", "at_seven"),
    [
        (sympy.Integer(3), 3),
        (S, 7),
        (2 * S + 1, 15),
        (S**2, 49),
        (S * (S - 1), 42),
        (FloorDiv(S, 2), 3),
        (Mod(S, 4), 3),
        (4 * FloorDiv(S + 3, 4), 8),
    ],
)
def test_sizes_of_pytorch_become_ours(expression: object, at_seven: int) -> None:
    assert evaluate(TABLE.convert(expression), {"n": 7}) == at_seven


def test_a_size_outside_polynomials_is_named() -> None:
    with pytest.raises(GraphError, match="Max"):
        TABLE.convert(sympy.Max(S, 4, evaluate=False))


def test_dims_can_be_named_by_position_or_left_to_pytorch() -> None:
    rows = torch.export.Dim("rows", min=2, max=64)
    listed = captured(lambda x: x + 1, torch.ones(5, 3), dynamic_shapes=([rows, None],))
    assert [s.name for s in listed.symbols()] == ["rows"]
    automatic = captured(
        lambda x: x + 1, torch.ones(5, 3), dynamic_shapes=({0: torch.export.Dim.AUTO},)
    )
    assert len(automatic.symbols()) == 1

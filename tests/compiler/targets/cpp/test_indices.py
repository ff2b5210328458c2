"""Index arithmetic: exact where ranges prove it, a request for other loops where not."""

import pytest

from banyan.compiler.ir.symbols import symbol
from banyan.compiler.targets.cpp.indices import (
    Cut,
    Index,
    Reshaped,
    Split,
    Variable,
    add,
    ask_for_cut,
    divide,
    largest,
    scale,
    variable_index,
)

ROW = Variable("i", 1, 0, 9, "0", 10)
COLUMN = Variable("j", 2, 0, 7, "1", 8)


def flat() -> Index:
    return add(scale(variable_index(ROW), 8), variable_index(COLUMN))


def test_a_flat_index_divides_into_its_parts_without_a_trace() -> None:
    assert divide(flat(), 8) == (variable_index(ROW), variable_index(COLUMN))


def test_a_division_inside_a_loop_asks_for_the_loop_to_be_split() -> None:
    with pytest.raises(Reshaped) as request:
        divide(variable_index(COLUMN), 4)
    assert request.value.change == Split("1", 4)


def test_a_symbolic_loop_is_split_by_a_factor_it_contains() -> None:
    n = symbol("n", 1, 50)
    variable = Variable("i", 1, 0, 49 * 6, "0", n * 6)
    with pytest.raises(Reshaped) as request:
        divide(variable_index(variable), 6)
    assert request.value.change == Split("0", 6)


def test_a_shifted_index_asks_for_a_cut_where_it_crosses() -> None:
    shifted = add(variable_index(COLUMN), Index((), 5))
    with pytest.raises(Reshaped) as request:
        divide(shifted, 10)
    assert request.value.change == Cut("1", 5)


def test_what_no_loop_decides_is_left_to_the_program() -> None:
    loaded = variable_index(Variable("v3", 1, -5, 100))
    assert divide(loaded, 4) is None


def test_a_boundary_inside_a_loop_is_a_cut_and_one_outside_is_not() -> None:
    with pytest.raises(Reshaped) as request:
        ask_for_cut(variable_index(COLUMN), 3)
    assert request.value.change == Cut("1", 3)
    ask_for_cut(variable_index(COLUMN), 8)
    ask_for_cut(flat(), 3)


def test_the_largest_index_of_a_symbolic_loop_is_symbolic() -> None:
    n = symbol("n", 1, 50)
    variable = Variable("i", 1, 0, 49, "0", n)
    assert largest(add(variable_index(variable), Index((), 4))) == n + 3


def test_indices_print_as_people_write_them() -> None:
    assert str(flat()) == "8 * i + j"
    assert str(add(flat(), Index((), -3))) == "8 * i + j - 3"
    assert str(Index()) == "0"

"""Index arithmetic: exact where ranges prove it, a request for other loops where not."""

import pytest

from banyan.compiler.ir.symbols import symbol
from banyan.compiler.targets.cpp.indices import Cut, Index, Reshaped, Split, Variable

ROW = Variable("i", 1, 0, 9, "0", 10)
COLUMN = Variable("j", 2, 0, 7, "1", 8)


def single(variable: Variable) -> Index:
    return Index(((variable, 1),))


def flat() -> Index:
    return single(ROW) * 8 + single(COLUMN)


def test_a_flat_index_divides_into_its_parts_without_a_trace() -> None:
    assert flat().divide(8) == (single(ROW), single(COLUMN))


def test_a_division_inside_a_loop_asks_for_the_loop_to_be_split() -> None:
    with pytest.raises(Reshaped) as request:
        single(COLUMN).divide(4)
    assert request.value.change == Split("1", 4)


def test_a_symbolic_loop_is_split_by_a_factor_it_contains() -> None:
    n = symbol("n", 1, 50)
    variable = Variable("i", 1, 0, 49 * 6, "0", n * 6)
    with pytest.raises(Reshaped) as request:
        single(variable).divide(6)
    assert request.value.change == Split("0", 6)


def test_a_shifted_index_asks_for_a_cut_where_it_crosses() -> None:
    shifted = single(COLUMN) + 5
    with pytest.raises(Reshaped) as request:
        shifted.divide(10)
    assert request.value.change == Cut("1", 5)


def test_what_no_loop_decides_is_left_to_the_program() -> None:
    loaded = single(Variable("v3", 1, -5, 100))
    assert loaded.divide(4) is None


def test_a_boundary_inside_a_loop_is_a_cut_and_one_outside_is_not() -> None:
    with pytest.raises(Reshaped) as request:
        single(COLUMN).ask_for_cut(3)
    assert request.value.change == Cut("1", 3)
    single(COLUMN).ask_for_cut(8)
    flat().ask_for_cut(3)


def test_the_largest_index_of_a_symbolic_loop_is_symbolic() -> None:
    n = symbol("n", 1, 50)
    variable = Variable("i", 1, 0, 49, "0", n)
    assert (single(variable) + 4).largest == n + 3


def test_indices_print_as_people_write_them() -> None:
    assert str(flat()) == "8 * i + j"
    assert str(flat() + -3) == "8 * i + j - 3"
    assert str(Index()) == "0"

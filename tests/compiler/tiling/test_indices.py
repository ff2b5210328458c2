import pytest

from banyan.compiler.ir.graph import Builder
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.tiling.indices import Indices, known

N = symbol("n", 1, 9)


@pytest.fixture
def indices() -> Indices:
    return Indices(Builder())


def test_constants_are_folded(indices: Indices) -> None:
    seven, two = indices.number(7), indices.number(2)
    assert known(indices.add(seven, two)) == 9
    assert known(indices.subtract(seven, two)) == 5
    assert known(indices.multiply(seven, 3)) == 21
    assert known(indices.divide(seven, 2)) == 3
    assert known(indices.remainder(seven, 4)) == 3


def test_neutral_numbers_leave_the_other_side(indices: Indices) -> None:
    size = indices.number(N)
    zero = indices.number(0)
    assert indices.add(size, zero) is size
    assert indices.add(zero, size) is size
    assert indices.subtract(size, zero) is size
    assert indices.multiply(size, 1) is size
    assert indices.divide(size, 1) is size
    assert known(indices.remainder(size, 1)) == 0
    assert known(indices.multiply(zero, N)) == 0
    assert indices.divide(zero, N) is zero


def test_division_undoes_multiplication_by_a_multiple(indices: Indices) -> None:
    size = indices.number(N)
    assert indices.divide(indices.multiply(size, 16), 16) is size
    assert indices.divide(indices.multiply(size, 64), 16) is indices.multiply(size, 4)
    assert indices.divide(indices.multiply(size, 6), 4).op == "floordiv"
    assert indices.divide(indices.add(size, indices.number(4)), 4).op == "floordiv"


def test_symbolic_sizes_are_multiplied_and_divided_by_name(indices: Indices) -> None:
    seven = indices.number(7)
    assert indices.multiply(seven, N).op == "mul"
    assert indices.divide(seven, N).op == "floordiv"
    assert indices.remainder(seven, N).op == "mod"


def test_a_scalar_meets_a_tile_by_growing(indices: Indices) -> None:
    found = indices.add(indices.count(5), indices.number(N))
    assert found.shape == (5,)


def test_flattening_and_unflattening_are_inverse(indices: Indices) -> None:
    position = [(indices.number(2), 3), (indices.number(1), 4), (indices.number(3), 5)]
    flat = indices.flatten(position)
    assert known(flat) == 2 * 20 + 1 * 5 + 3
    assert [known(index) for index in indices.unflatten(flat, (3, 4, 5))] == [2, 1, 3]
    assert indices.unflatten(indices.number(0), ()) == []

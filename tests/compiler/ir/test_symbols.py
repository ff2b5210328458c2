"""Arithmetic of symbolic sizes."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.compiler.ir.symbols import (
    Dim,
    ceil_divide,
    evaluate,
    lower_bound,
    matching_groups,
    product,
    strides,
    substitute,
    symbol,
    symbols_in,
    upper_bound,
)

T = symbol("T", 1, 100)
S = symbol("S", 2, 8)


def dims() -> st.SearchStrategy[Dim]:
    leaves = st.one_of(st.integers(0, 9), st.just(T), st.just(S))

    def grow(inner: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda p: p[0] + p[1]),
            pairs.map(lambda p: p[0] * p[1]),
            st.tuples(inner, st.integers(1, 7)).map(lambda p: p[0] // p[1]),
        )

    return st.recursive(leaves, grow, max_leaves=6)


@given(dims(), dims(), st.integers(1, 100), st.integers(2, 8))
def test_arithmetic_on_sizes_is_arithmetic_on_their_values(
    a: Dim, b: Dim, tokens: int, sequences: int
) -> None:
    values = {"T": tokens, "S": sequences}
    x, y = evaluate(a, values), evaluate(b, values)
    assert evaluate(a + b, values) == x + y
    assert evaluate(a - b, values) == x - y
    assert evaluate(a * b, values) == x * y
    assert evaluate(a // 3, values) == x // 3


@given(dims(), st.integers(1, 100), st.integers(2, 8))
def test_every_value_lies_between_the_bounds(a: Dim, tokens: int, sequences: int) -> None:
    value = evaluate(a, {"T": tokens, "S": sequences})
    assert lower_bound(a) <= value <= upper_bound(a)


@given(dims(), dims())
def test_sums_and_products_do_not_depend_on_the_order(a: Dim, b: Dim) -> None:
    assert a + b == b + a
    assert a * b == b * a


def test_what_cancels_becomes_a_plain_number() -> None:
    assert (T + 3) - T == 3
    assert isinstance((T + 3) - T, int)


def test_a_multiple_divides_without_a_quotient() -> None:
    assert (T * 16) // 16 == T
    assert (T * 16 + 5) // 16 == T


def test_rounding_up_reads_as_it_is_written() -> None:
    assert str(ceil_divide(T, 16)) == "((T + 15) // 16)"
    assert evaluate(ceil_divide(T, 16), {"T": 17}) == 2


def test_substitution_reaches_inside_quotients() -> None:
    assert substitute(ceil_divide(T, 16), {"T": 32}) == 2
    assert substitute(T * S + 1, {"T": S}) == S * S + 1


def test_symbols_are_found_inside_quotients() -> None:
    assert {s.name for s in symbols_in(ceil_divide(T * S, 16) + 1)} == {"T", "S"}


def test_the_product_of_no_sizes_is_one() -> None:
    assert product(()) == 1
    assert product((T, 2)) == 2 * T


def test_shapes_are_cut_into_the_finest_equal_runs() -> None:
    assert matching_groups((T, 8), (T, 2, 4)) == [([0], [0]), ([1], [1, 2])]
    assert matching_groups((2, 3, 4), (6, 4)) == [([0, 1], [0]), ([2], [1])]
    assert matching_groups((2, T, 3), (2, T, 3)) == [([0], [0]), ([1], [1]), ([2], [2])]
    assert matching_groups((T,), (T, 1)) == [([0], [0]), ([], [1])]
    assert matching_groups((), ()) == []


def test_the_last_dim_has_neighbours_side_by_side() -> None:
    assert strides((3, T, 4)) == (4 * T, 4, 1)
    assert strides(()) == ()

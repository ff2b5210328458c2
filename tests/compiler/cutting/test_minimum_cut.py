"""Cuts that can be seen by eye, and random ones against trying all."""

from itertools import chain, combinations

from hypothesis import given
from hypothesis import strategies as st

from banyan.compiler.cutting.minimum_cut import minimum_cut


def cost(capacities: dict[tuple[str, str], int], before: frozenset[str]) -> int:
    return sum(c for (start, end), c in capacities.items() if start in before and end not in before)


def test_the_narrow_place_is_cut_and_ties_keep_the_source_side_small() -> None:
    chain_of_pipes = {("s", "a"): 5, ("a", "b"): 2, ("b", "c"): 2, ("c", "t"): 5}
    assert minimum_cut(chain_of_pipes, "s", "t") == {"s", "a"}


def test_without_a_way_nothing_but_what_is_reached_is_on_the_side_of_the_source() -> None:
    assert minimum_cut({("s", "a"): 1, ("b", "t"): 1}, "s", "t") == {"s", "a"}


VERTICES = ("s", "a", "b", "c", "t")
EDGES = st.dictionaries(
    st.tuples(st.sampled_from(VERTICES), st.sampled_from(VERTICES)), st.integers(0, 9)
)


@given(EDGES)
def test_no_other_cut_costs_less(capacities: dict[tuple[str, str], int]) -> None:
    found = cost(capacities, minimum_cut(capacities, "s", "t"))
    inner = VERTICES[1:-1]
    sides = chain.from_iterable(combinations(inner, size) for size in range(len(inner) + 1))
    assert found == min(cost(capacities, frozenset({"s", *side})) for side in sides)

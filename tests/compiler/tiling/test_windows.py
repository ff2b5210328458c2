import pytest

from banyan.compiler.ir.graph import Builder
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.windows import (
    At,
    CannotPull,
    Each,
    MustCut,
    Span,
    as_lanes,
    entry_for,
    index_of,
    is_whole,
    labels,
    tile_shape,
    whole,
)

N = symbol("n", 1, 9)
INDICES = Indices(Builder())
ZERO = INDICES.number(0)
NODE = ZERO


def test_lists_come_first_in_a_tile() -> None:
    window = (Span(ZERO, 4), At(ZERO), Each(INDICES.count(3)), Span(ZERO, N))
    assert tile_shape(window) == (3, 4, N)
    assert labels(window) == ["each", 0, 3]


def test_a_span_is_whole_when_it_covers_the_dim() -> None:
    assert is_whole(whole(INDICES, N), N)
    assert not is_whole(Span(INDICES.number(1), N), N)
    assert not is_whole(At(ZERO), 1)


def test_spans_become_lanes_in_row_major_order() -> None:
    first, second = as_lanes(INDICES, (Span(ZERO, 2), Span(INDICES.number(5), 3)), NODE)
    assert isinstance(first, Each)
    assert isinstance(second, Each)
    assert first.index.shape == second.index.shape == (6,)


def test_a_window_without_spans_is_its_own_lanes() -> None:
    window = (At(ZERO), Each(INDICES.count(3)))
    assert as_lanes(INDICES, window, NODE) == window


def test_lists_and_spans_together_have_no_lanes() -> None:
    with pytest.raises(CannotPull) as refused:
        as_lanes(INDICES, (Each(INDICES.count(3)), Span(ZERO, 2)), NODE)
    assert refused.value.node is NODE


def test_entries_know_their_index() -> None:
    tile = INDICES.count(3)
    assert entry_for(ZERO) == At(ZERO)
    assert entry_for(tile) == Each(tile)
    assert index_of(Each(tile)) is tile
    with pytest.raises(TypeError):
        index_of(Span(ZERO, 2))


def test_a_cut_names_its_borders() -> None:
    assert MustCut((2, 5)).offsets == (2, 5)

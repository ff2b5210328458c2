from banyan.compiler.ir.graph import Builder
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.tiling.indices import Indices, known
from banyan.compiler.tiling.reshaping import through_reshape
from banyan.compiler.tiling.windows import At, Each, Entry, Span, whole

N = symbol("n", 1, 9)
INDICES = Indices(Builder())


def at(value: int) -> At:
    return At(INDICES.number(value))


def span(start: int, size: Dim) -> Span:
    return Span(INDICES.number(start), size)


def through(window: tuple[Entry, ...], shape: tuple[Dim, ...], source: tuple[Dim, ...]) -> object:
    found = through_reshape(INDICES, window, shape, source)
    return None if found is None else [shown(entry) for entry in found]


def shown(entry: Entry) -> object:
    if isinstance(entry, Span):
        return (known(entry.start), entry.size)
    return known(entry.index)


def test_equal_dims_keep_their_windows() -> None:
    assert through((at(2), span(1, 3)), (N, 8), (N, 8)) == [2, (1, 3)]


def test_one_head_of_a_row_is_a_span_of_the_row() -> None:
    assert through((at(5), at(2), span(0, 4)), (N, 3, 4), (N, 12)) == [5, (8, 4)]
    assert through((at(5), at(2), span(1, 2)), (N, 3, 4), (N, 12)) == [5, (9, 2)]


def test_a_whole_row_is_whole_heads() -> None:
    assert through((at(5), span(0, 12)), (N, 12), (N, 3, 4)) == [5, (0, 3), (0, 4)]


def test_single_indices_are_counted_again() -> None:
    assert through((at(7),), (12,), (3, 4)) == [1, 3]
    assert through((at(1), at(3)), (3, 4), (12,)) == [7]


def test_ones_come_and_go() -> None:
    assert through((at(4), at(0), span(0, 8)), (N, 1, 8), (N, 8)) == [4, (0, 8)]
    assert through((at(4), span(0, 8)), (N, 8), (N, 1, 8)) == [4, 0, (0, 8)]


def test_whole_dims_behind_an_index_stay_whole() -> None:
    window = (at(1), span(0, 3), span(0, 4))
    assert through(window, (2, 3, 4), (2, 12)) == [1, (0, 12)]
    assert through(window, (2, 3, 4), (24,)) == [(12, 12)]
    assert through(window, (2, 3, 4), (2, 4, 3)) == [1, (0, 4), (0, 3)]


def test_whole_lines_of_a_packed_row_are_found() -> None:
    assert through((span(4, 6),), (12,), (6, 2)) == [(2, 3), (0, 2)]
    assert through((span(3, 6),), (12,), (6, 2)) is None
    assert through((span(4, 6),), (12,), (2, 3, 2)) is None


def test_what_is_no_window_of_the_source_is_refused() -> None:
    assert through((span(0, 2), span(0, 3)), (4, 3), (12,)) is None
    assert through((Each(INDICES.count(2)), span(0, 3)), (4, 3), (12,)) is None
    assert through((span(0, 2), span(0, 3)), (6, 4), (4, 6)) is None


def test_lists_are_counted_again_lane_by_lane() -> None:
    found = through_reshape(INDICES, (Each(INDICES.count(5)),), (12,), (3, 4))
    assert found is not None
    assert [type(entry) for entry in found] == [Each, Each]


def test_a_symbolic_tail_is_whole() -> None:
    found = through_reshape(INDICES, (at(1), whole(INDICES, N)), (3, N), (3 * N,))
    assert found is not None
    (entry,) = found
    assert isinstance(entry, Span)
    assert entry.size == N

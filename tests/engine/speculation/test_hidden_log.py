"""The log of hidden states: the newest rows, in one piece, whatever was noted in between."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.speculation.hidden_log import HiddenLog

ONE, OTHER = SequenceId(1), SequenceId(2)


def rows(first: int, stop: int, mark: int = 0) -> NDArray[np.float32]:
    """Rows that say their position and who noted them."""
    return np.array([(position, mark) for position in range(first, stop)], np.float32)


def test_rows_are_given_once_from_the_first_to_the_one_in_front_of_the_end() -> None:
    log = HiddenLog(most_rows=10)
    log.note(ONE, 0, rows(0, 3))
    log.note(OTHER, 0, rows(0, 9, mark=7))
    log.note(ONE, 3, rows(3, 4))
    first, taken = log.take(ONE, 4) or (None, None)
    assert first == 0
    np.testing.assert_array_equal(taken, rows(0, 4))
    assert log.take(ONE, 4) is None
    log.note(ONE, 4, rows(4, 6))
    assert (log.take(ONE, 5) or (None,))[0] == 4


def test_states_of_wrong_guesses_are_replaced() -> None:
    log = HiddenLog(most_rows=10)
    log.note(ONE, 0, rows(0, 6, mark=1))
    log.note(ONE, 2, rows(2, 4, mark=2))
    np.testing.assert_array_equal(
        (log.take(ONE, 4) or (0, None))[1], np.concatenate((rows(0, 2, 1), rows(2, 4, 2)))
    )


def test_a_copy_is_kept() -> None:
    log = HiddenLog(most_rows=10)
    noted = rows(0, 2)
    log.note(ONE, 0, noted)
    noted[:] = -1
    np.testing.assert_array_equal(log.last(ONE, 2), [1, 0])


def test_a_gap_drops_what_was_before_it() -> None:
    log = HiddenLog(most_rows=10)
    log.note(ONE, 0, rows(0, 2))
    log.note(ONE, 5, rows(5, 7))
    assert log.last(ONE, 2) is None
    assert log.take(ONE, 9) is None
    assert (log.take(ONE, 7) or (None,))[0] == 5


def test_a_forgotten_sequence_has_nothing() -> None:
    log = HiddenLog(most_rows=10)
    log.note(ONE, 0, rows(0, 2))
    log.forget(ONE)
    log.forget(ONE)
    assert log.last(ONE, 2) is None


@given(
    notes=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=12),
    most=st.integers(1, 8),
)
def test_what_is_given_is_what_was_noted_last_of_each_place(
    notes: list[tuple[int, int]], most: int
) -> None:
    log = HiddenLog(most_rows=most)
    known: dict[int, int] = {}
    for mark, (start, count) in enumerate(notes, 1):
        known = {position: m for position, m in known.items() if position < start}
        if start - 1 not in known:
            known = {}
        known |= dict.fromkeys(range(start, start + count), mark)
        log.note(ONE, start, rows(start, start + count, mark))
    end = max(known) + 1
    np.testing.assert_array_equal(log.last(ONE, end), [end - 1, known[end - 1]])
    first, taken = log.take(ONE, end) or (0, rows(0, 0))
    expected = [(position, known[position]) for position in range(first, end)]
    np.testing.assert_array_equal(taken, expected)


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=12), most=st.integers(1, 8))
def test_at_least_the_newest_are_kept_and_not_many_more(counts: list[int], most: int) -> None:
    log, end = HiddenLog(most_rows=most), 0
    for count in counts:
        log.note(ONE, end, rows(end, end + count))
        end += count
    first, taken = log.take(ONE, end) or (0, rows(0, 0))
    np.testing.assert_array_equal(taken, rows(first, end))
    assert min(most, end) <= len(taken) < 2 * most

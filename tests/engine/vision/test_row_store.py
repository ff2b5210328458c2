import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.engine.scheduling.scheduler import SequenceId
from banyan.engine.vision.row_store import RowStore

ONE, TWO = SequenceId(1), SequenceId(2)


def test_rows_stay_until_the_last_one_lets_them_go() -> None:
    store = RowStore()
    store.add(b"a", np.ones((3, 2)), ONE)
    assert store.hold(b"a", TWO)
    store.release(b"a", ONE)
    assert (store.num_rows, b"a" in store) == (3, True)
    store.release_all(TWO)
    assert (store.num_rows, len(store)) == (0, 0)


def test_rows_that_are_not_there_cannot_be_held_and_strangers_let_nothing_go() -> None:
    store = RowStore()
    assert not store.hold(b"a", ONE)
    store.add(b"a", np.ones((3, 2)), ONE)
    store.release(b"a", TWO)
    store.release_all(TWO)
    assert store.rows(b"a").shape == (3, 2)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from("hrx"), st.integers(0, 3), st.integers(0, 3))))
def test_what_is_kept_is_what_somebody_holds(moves: list[tuple[str, int, int]]) -> None:
    store = RowStore()
    expected: dict[int, set[int]] = {}  # holders of each picture
    for kind, number, who in moves:
        digest, holder = bytes([number]), SequenceId(who)
        if kind == "h":
            if not store.hold(digest, holder):
                store.add(digest, np.zeros((number + 1, 1)), holder)
            expected.setdefault(number, set()).add(who)
        elif kind == "r":
            store.release(digest, holder)
            expected.get(number, set()).discard(who)
        else:
            store.release_all(holder)
            for holders in expected.values():
                holders.discard(who)
        expected = {one: holders for one, holders in expected.items() if holders}
        assert len(store) == len(expected)
        assert store.num_rows == sum(one + 1 for one in expected)
        assert all(bytes([one]) in store for one in expected)

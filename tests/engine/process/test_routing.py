"""Where requests go: to the replica that would begin them soonest."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.process.routing import PrefixDirectory, ReplicaLoad, choose_replica

PROMPT = tuple(range(100, 180))


def test_the_least_work_for_its_speed_is_chosen() -> None:
    even = [ReplicaLoad(1.0, 300), ReplicaLoad(1.0, 200), ReplicaLoad(1.0, 200)]
    assert choose_replica(even, 10) == 1
    # (300 + 100) / 3 is less than (200 + 100) / 1.
    assert choose_replica([ReplicaLoad(1.0, 200), ReplicaLoad(3.0, 300)], 100) == 1


def test_a_cached_beginning_counts_as_much_as_it_saves() -> None:
    busy = ReplicaLoad(1.0, 400, cached_tokens=512)
    assert choose_replica([ReplicaLoad(1.0, 0), busy], 600) == 1
    assert choose_replica([ReplicaLoad(1.0, 0), ReplicaLoad(1.0, 600, 512)], 600) == 0


def test_one_that_is_not_ready_gets_nothing() -> None:
    gone = ReplicaLoad(1.0, 0, is_ready=False)
    assert choose_replica([gone, ReplicaLoad(1.0, 10**9)], 5) == 1
    assert choose_replica([gone, gone], 5) is None


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=60), st.integers(1, 5))
def test_even_replicas_are_never_further_apart_than_one_request(
    lengths: list[int], num_replicas: int
) -> None:
    owed = [0] * num_replicas
    for length in lengths:
        chosen = choose_replica([ReplicaLoad(1.0, each) for each in owed], length)
        assert chosen is not None
        owed[chosen] += length
        assert max(owed) - min(owed) <= max(lengths)


def test_beginnings_are_known_by_whole_blocks_and_by_what_caches_are_shared_by() -> None:
    directory = PrefixDirectory(1000)
    directory.note(PROMPT[:40], None, 1)
    assert directory.cached_tokens(PROMPT, None, 3) == (0, 32, 0)
    assert directory.cached_tokens(PROMPT, "adapter", 3) == (0, 0, 0)
    assert directory.cached_tokens((1, *PROMPT), None, 3) == (0, 0, 0)
    directory.note(PROMPT, None, 2)
    assert directory.cached_tokens(PROMPT, None, 3) == (0, 32, 80)
    directory.forget(2)
    assert directory.cached_tokens(PROMPT, None, 3) == (0, 32, 0)


def test_the_oldest_are_forgotten() -> None:
    directory = PrefixDirectory(3)
    directory.note(PROMPT[:32], None, 0)
    directory.note([7] * 32, None, 0)
    assert directory.cached_tokens(PROMPT[:32], None, 1) == (0,)
    assert directory.cached_tokens([7] * 32, None, 1) == (32,)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.process.fleet import Fleet, FleetPatience

PATIENCE = FleetPatience(
    most_failures=3,
    failing_seconds=10.0,
    first_look_seconds=1.0,
    longest_look_seconds=4.0,
    steady_seconds=100.0,
)
TWO = Fleet(names=("a", "b"))


def lost(at: float = 0.0) -> Fleet:
    return TWO.failed("a", "a is gone", at, PATIENCE, is_gone=True)


def test_a_device_that_is_gone_is_lost_and_looked_for_later_and_later() -> None:
    fleet = lost()
    assert fleet.state("a") == "lost"
    assert fleet.condition.missing == {"a"}
    waits = []
    now = 0.0
    for _ in range(4):
        (loss,) = fleet.losses.values()
        waits.append(loss.look_at - now)
        assert fleet.to_look_for(loss.look_at - 0.01) == ()
        assert fleet.to_look_for(loss.look_at) == ("a",)
        now = loss.look_at
        fleet = fleet.not_found("a", "still gone", now, PATIENCE)
    assert waits == [1.0, 2.0, 4.0, 4.0]
    assert fleet.losses["a"].reason == "still gone"


def test_one_that_comes_back_and_goes_again_is_waited_for_longer() -> None:
    fleet = lost(0.0).found("a", 1.0)
    assert fleet.state("a") == "ready"
    again = fleet.failed("a", "again", 2.0, PATIENCE, is_gone=True)
    assert again.losses["a"].look_at == 4.0
    # Well for long: as if it had never been lost.
    later = fleet.failed("a", "again", 102.0, PATIENCE, is_gone=True)
    assert later.losses["a"].look_at == 103.0


def test_a_device_that_fails_again_and_again_is_lost_though_it_answers() -> None:
    fleet = TWO
    for at in (0.0, 4.0):
        fleet = fleet.failed("b", "died", at, PATIENCE, is_gone=False)
        assert fleet.state("b") == "ready"
    assert fleet.failed("b", "died", 9.0, PATIENCE, is_gone=False).state("b") == "lost"
    # The first one is forgotten by then.
    assert fleet.failed("b", "died", 12.0, PATIENCE, is_gone=False).state("b") == "ready"


def test_what_a_person_drains_stays_out_until_a_person_says_otherwise() -> None:
    fleet = lost().with_drained("a", is_drained=True)
    assert fleet.found("a", 1.0).state("a") == "drained"
    assert fleet.found("a", 1.0).condition.missing == {"a"}
    back = fleet.with_drained("a", is_drained=False)
    assert back.state("a") == "lost"


def test_how_slow_a_device_is_counts_only_while_it_is_used() -> None:
    fleet = TWO.with_slowdowns({"a": 2.0, "b": 3.0}).with_drained("b", is_drained=True)
    assert dict(fleet.condition.slowdowns) == {"a": 2.0}


@given(
    st.lists(
        st.tuples(st.sampled_from("fglnd"), st.sampled_from("ab"), st.integers(0, 50)),
        max_size=30,
    )
)
def test_whatever_happens_each_device_is_ready_or_known_to_be_missing(
    events: list[tuple[str, str, int]],
) -> None:
    fleet, now = TWO, 0
    for what, name, passed in events:
        now += passed
        if what in "fg":
            fleet = fleet.failed(name, "x", now, PATIENCE, is_gone=what == "g")
        elif what == "d":
            fleet = fleet.with_drained(name, is_drained=name not in fleet.drained)
        elif name in fleet.losses:
            fleet = (
                fleet.found(name, now) if what == "l" else fleet.not_found(name, "x", now, PATIENCE)
            )
        for each in fleet.names:
            assert (fleet.state(each) == "ready") == (each not in fleet.condition.missing)
        for loss in fleet.losses.values():
            assert loss.look_at - loss.wait_seconds <= now
            assert 1.0 <= loss.wait_seconds <= 4.0
        assert fleet.to_look_for(now + 4.0) == tuple(fleet.losses)


def test_unknown_devices_are_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError):
        TWO.found("c", 0.0)

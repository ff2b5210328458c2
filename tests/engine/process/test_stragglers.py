import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.process.stragglers import StragglerRules, Stragglers, factors_of

RULES = StragglerRules(windows=3, busy_seconds=0.1)


def after(speeds: list[dict[str, float]], expected: dict[str, float]) -> Stragglers:
    """What is known after windows in which devices took so many times longer than expected."""
    seen = Stragglers(expected=expected)
    busy = dict.fromkeys(expected, 0.0)
    for window in [dict.fromkeys(expected, 1.0), *speeds]:
        busy = {name: busy[name] + 10.0 * expected[name] * window[name] for name in expected}
        seen = seen.observed(busy, RULES)
    return seen


EVEN = {"a": 0.1, "b": 0.1}


def test_a_device_of_half_the_speed_is_slow_after_three_windows_and_not_before() -> None:
    slow = [{"a": 1.0, "b": 2.0}]
    assert after(slow * 2, EVEN).slowdowns == {}
    assert after(slow * 3, EVEN).slowdowns == {"b": pytest.approx(2.0)}


def test_one_slow_window_between_good_ones_says_nothing() -> None:
    good, slow = {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 5.0}
    assert after([good, slow, slow, good, slow, slow, good], EVEN).slowdowns == {}


def test_a_machine_on_which_all_are_slow_has_no_straggler() -> None:
    assert after([{"a": 4.0, "b": 4.4}] * 5, EVEN).slowdowns == {}


def test_uneven_shares_of_the_work_are_as_they_were_planned() -> None:
    assert after([{"a": 1.0, "b": 1.0}] * 5, {"a": 0.4, "b": 0.1}).slowdowns == {}


def test_a_device_that_is_well_again_is_told_from_one_that_is_nearly_so() -> None:
    slow, nearly, well = {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 1.3}, {"a": 1.0, "b": 1.1}
    assert after([slow] * 3 + [nearly] * 5, EVEN).slowdowns == {"b": pytest.approx(2.0)}
    assert after([slow] * 3 + [nearly] * 5 + [well] * 3, EVEN).slowdowns == {}


def test_one_that_becomes_slower_still_is_judged_anew() -> None:
    twice, more, much = ({"a": 1.0, "b": times} for times in (2.0, 2.2, 6.0))
    assert after([twice] * 3 + [more] * 3, EVEN).slowdowns == {"b": pytest.approx(2.0)}
    assert after([twice] * 3 + [much] * 3, EVEN).slowdowns == {"b": pytest.approx(6.0)}


def test_windows_without_work_and_other_engines_are_left_out() -> None:
    seen = after([{"a": 1.0, "b": 2.0}] * 2, EVEN)
    assert seen.observed(seen.busy, RULES) == seen
    assert seen.observed({"a": 5.0}, RULES) == seen
    anew = seen.observed({"a": 0.5, "b": 0.5}, RULES)
    assert anew.factors == ()
    assert anew.observed({"a": 1.5, "b": 1.5}, RULES).factors == ({"a": 1.0, "b": 1.0},)


times = st.floats(0.05, 20.0)


@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.tuples(times, times), min_size=2),
    st.floats(0.1, 10.0),
)
def test_a_factor_depends_on_the_others_only(
    devices: dict[str, tuple[float, float]], all_slower: float
) -> None:
    worked = {name: seconds for name, (seconds, _) in devices.items()}
    expected = {name: seconds for name, (_, seconds) in devices.items()}
    factors = factors_of(worked, expected)
    assert all(factor > 0 for factor in factors.values())
    # Somebody is the measure, and at least half are not faster than it.
    assert 1.0 in factors.values()
    assert sum(factor >= 1.0 for factor in factors.values()) * 2 >= len(factors)
    slower = factors_of({name: all_slower * each for name, each in worked.items()}, expected)
    assert slower == pytest.approx(factors)


@given(st.lists(st.tuples(times, times, times), max_size=12))
def test_who_is_called_slow_was_slow_in_three_windows_and_one_is_always_left(
    windows: list[tuple[float, float, float]],
) -> None:
    expected = {"a": 0.1, "b": 0.2, "c": 0.3}
    speeds = [dict(zip(expected, window, strict=True)) for window in windows]
    found = after(speeds, expected).slowdowns
    assert set(found) < set(expected)
    for name, factor in found.items():
        assert factor >= RULES.slow
        slow = [
            factors_of({n: expected[n] * w[n] for n in expected}, expected)[name]
            >= RULES.slow * 0.999
            for w in speeds
        ]
        assert any(all(slow[i : i + 3]) for i in range(len(slow) - 2))

"""Slow, hung and silent differ, and who was away does not blame the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.distributed.channel import PeerPulse
from banyan.distributed.pulse import Condition, OwnPulse, Patience, Silence, Timing, judge
from banyan.foundation.errors import InputError


@pytest.mark.parametrize(
    ("silent", "working", "expected", "condition"),
    [
        (0.0, 0.0, 0.05, Condition.WELL),
        (0.2, 0.09, 0.05, Condition.WELL),
        (0.2, 0.11, 0.05, Condition.SLOW),
        # Twenty times as long as expected, but not yet five seconds.
        (0.2, 4.9, 0.05, Condition.SLOW),
        (0.2, 5.1, 0.05, Condition.HUNG),
        # A long prompt of a minute is not hung after five seconds.
        (0.2, 59.0, 30.0, Condition.WELL),
        (0.2, 601.0, 30.0, Condition.HUNG),
        (3.1, 0.0, 0.05, Condition.SILENT),
        (3.1, 600.0, 0.05, Condition.SILENT),
    ],
)
def test_what_a_pulse_means(
    silent: float, working: float, expected: float, condition: Condition
) -> None:
    assert judge(PeerPulse(silent, working), expected, Timing(), Patience()) is condition


def test_silence_counts_what_was_listened_to() -> None:
    silence = Silence(3.0, now=100.0)
    assert not any(silence.observe(100.0 + 0.5 * step) for step in range(1, 7))
    assert silence.observe(103.5)


def test_who_was_stopped_for_an_hour_listens_first() -> None:
    silence = Silence(3.0, now=0.0)
    assert not silence.observe(3600.0)
    assert silence.seconds == 1.0
    silence.heard(3600.1)
    assert silence.seconds == 0.0


@given(st.lists(st.floats(0, 10_000), max_size=30))
def test_fewer_than_three_looks_never_break_a_channel(gaps: list[float]) -> None:
    silence, now, quiet = Silence(3.0, now=0.0), 0.0, 0
    for number, gap in enumerate(gaps):
        now += gap
        if number % 3 == 2:
            silence.heard(now)
            quiet = 0
        else:
            quiet += 1
            assert not silence.observe(now), quiet


def test_own_pulse_counts_from_when_something_came() -> None:
    pulse = OwnPulse(now=10.0)
    assert pulse.working_seconds(12.0) == 2.0
    pulse.waits()
    assert pulse.working_seconds(20.0) == 0.0
    pulse.works(20.0)
    assert pulse.working_seconds(20.5) == 0.5


def test_a_silence_shorter_than_three_beats_is_refused() -> None:
    with pytest.raises(InputError, match=r"silence of 1\.0 s with a beat every 0\.5 s"):
        Timing(beat_seconds=0.5, silent_seconds=1.0)

"""Slow, hung and silent differ, and who was away does not blame the other."""

import pytest

from banyan.distributed.channel import PeerPulse
from banyan.distributed.pulse import Condition, OwnPulse, Patience, Timing, judge
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

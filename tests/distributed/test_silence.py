"""Only time in which somebody listened counts as silence."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.distributed.silence import Silence


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

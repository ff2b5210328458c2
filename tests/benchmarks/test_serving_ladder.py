"""Which rate the comparison of servers tries next."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving.ladder import Ladder, Rung

LADDER = Ladder(first=1.0, factor=2.0, most=4)


def test_rates_rise_until_one_is_not_kept() -> None:
    assert LADDER.next_rate([]) == 1.0
    assert LADDER.next_rate([Rung(1.0, kept=True)]) == 2.0
    assert LADDER.next_rate([Rung(1.0, kept=True), Rung(2.0, kept=False)]) is None


def test_rates_fall_until_one_is_kept() -> None:
    assert LADDER.next_rate([Rung(1.0, kept=False)]) == 0.5
    assert LADDER.next_rate([Rung(1.0, kept=False), Rung(0.5, kept=True)]) is None


@given(
    first=st.floats(0.01, 100), factor=st.floats(1.05, 4), most=st.integers(1, 12), data=st.data()
)
def test_what_is_found_is_within_one_factor_of_what_a_server_can_do(
    first: float, factor: float, most: int, data: st.DataObject
) -> None:
    ladder = Ladder(first=first, factor=factor, most=most)
    able = data.draw(st.floats(0.001, 1000))
    tried: list[Rung] = []
    while (rate := ladder.next_rate(tried)) is not None:
        tried.append(Rung(rate, kept=rate <= able))
    assert 1 <= len(tried) <= most
    kept = [rung.rate for rung in tried if rung.kept]
    failed = [rung.rate for rung in tried if not rung.kept]
    if kept and failed:
        assert max(kept) <= able < min(failed)
        assert min(failed) <= max(kept) * factor * 1.001
    else:
        assert len(tried) == most

"""Micro-batches start as early as the limit of cached tokens allows, and never earlier."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.load_control import LoadControl, MicroBatch, micro_batch_size, peak_load

BATCHES = st.builds(
    MicroBatch,
    num_sequences=st.integers(1, 6),
    answer_tokens=st.integers(1, 12),
    prompt_tokens=st.integers(0, 8),
)


def _filled(limit: int, batches: list[MicroBatch], gaps: list[int]) -> tuple[LoadControl, int]:
    control, now = LoadControl(limit), 0
    for batch, gap in zip(batches, gaps, strict=False):
        now += gap
        if batch.peak <= limit:
            control = control.start(batch, control.earliest_start(batch, now))
    return control, now


def test_the_second_micro_batch_waits_until_the_first_leaves_it_room() -> None:
    # 4 sequences of 10 tokens: 40 at the end. 60 leave 20 for the next 4, so 5 tokens each.
    control = LoadControl(60).start(MicroBatch(4, 10), 0)
    assert control.earliest_start(MicroBatch(4, 10), 0) == 5
    assert control.start(MicroBatch(4, 10), 5).load(10) == 60


def test_a_prompt_that_finds_no_room_waits_for_an_end() -> None:
    control = LoadControl(60).start(MicroBatch(4, 10), 0)
    assert control.earliest_start(MicroBatch(3, 2, prompt_tokens=10), 8) == 11


def test_what_ended_is_forgotten() -> None:
    control = LoadControl(60).start(MicroBatch(4, 10), 0).start(MicroBatch(1, 5), 11)
    assert [flight.start for flight in control.flights] == [11]


@pytest.mark.parametrize("ratio", [4, 8, 16, 32])
def test_even_starts_reach_half_the_peak_of_a_common_start(ratio: int) -> None:
    answer, interval, sequences = 4 * ratio, 4, 16 * ratio
    batch = MicroBatch(micro_batch_size(sequences, answer, interval), answer)
    limit = peak_load(sequences, answer, interval)
    control = LoadControl(int(limit), interval=interval)
    highest, step = 0, 0
    for _ in range(3 * ratio):
        step = control.earliest_start(batch, step)
        control = control.start(batch, step)
        highest = max(highest, *(control.load(s) for s in range(step, step + interval + 1)))
    assert step == (3 * ratio - 1) * interval  # the limit never held a start up
    assert highest == limit == sequences * (answer + interval) / 2
    assert highest / (sequences * answer) == (1 + 1 / ratio) / 2


@given(st.integers(1, 200), st.lists(BATCHES, max_size=12), st.lists(st.integers(0, 9)))
def test_the_load_never_exceeds_its_limit(
    limit: int, batches: list[MicroBatch], gaps: list[int]
) -> None:
    control, now = LoadControl(limit), 0
    started: list[tuple[int, MicroBatch]] = []
    for batch, gap in zip(batches, gaps, strict=False):
        now += gap
        if batch.peak <= limit:
            step = control.earliest_start(batch, now)
            control = control.start(batch, step)
            started.append((step, batch))
    last = max((step + batch.answer_tokens for step, batch in started), default=0)
    for step in range(last + 1):
        assert sum(batch.load(step - start) for start, batch in started) <= limit


@given(st.integers(1, 200), st.lists(BATCHES, max_size=10), st.lists(st.integers(0, 9)), BATCHES)
def test_no_earlier_start_would_do(
    limit: int, batches: list[MicroBatch], gaps: list[int], batch: MicroBatch
) -> None:
    control, now = _filled(limit, batches, gaps)
    if batch.peak > limit:
        with pytest.raises(InputError, match="exceed the load limit"):
            control.earliest_start(batch, now)
        return
    found = control.earliest_start(batch, now)
    first = max([now, *(flight.start for flight in control.flights)])
    assert found >= first
    for step in range(first, found):
        tried = control.start(batch, step)
        steps = range(step, max(flight.end for flight in tried.flights) + 1)
        assert max(map(tried.load, steps)) > limit


@given(st.integers(1, 200), st.lists(BATCHES, max_size=10), st.lists(st.integers(0, 9)))
def test_the_load_noted_for_an_end_is_the_load_there(
    limit: int, batches: list[MicroBatch], gaps: list[int]
) -> None:
    control, _ = _filled(limit, batches, gaps)
    for flight in control.flights:
        assert flight.load_at_end == control.load(flight.end)


def test_groups_that_are_no_whole_sequences_are_refused() -> None:
    with pytest.raises(InputError, match="multiple of 100"):
        micro_batch_size(10, 100, 3)


@given(st.lists(BATCHES, max_size=8), st.integers(0, 20))
def test_what_runs_is_counted_as_if_it_all_started_now(batches: list[MicroBatch], now: int) -> None:
    control = LoadControl(10**6)
    for batch in batches:
        control = control.start(batch, now)
    again = LoadControl(10**6).start(MicroBatch(1, 5), 0).with_running(batches, now)
    ends = [sorted((f.end, f.load_at_end) for f in found.flights) for found in (control, again)]
    assert ends[0] == ends[1]

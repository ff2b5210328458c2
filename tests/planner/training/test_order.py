import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.training.job import ORDERS, Order
from banyan.planner.training.order import (
    StageTimes,
    estimated_seconds,
    num_in_flight,
    passes,
    pipeline_seconds,
)

STAGES = st.lists(
    st.builds(StageTimes, st.integers(1, 9), st.integers(1, 18), st.integers(0, 4)),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("order", ORDERS)
def test_even_stages_take_the_micro_batches_and_the_bubble(order: Order) -> None:
    # Three stages of 1 + 2 seconds and 5 micro-batches: (5 + 3 - 1) x 3.
    assert pipeline_seconds([StageTimes(1, 2)] * 3, 5, order) == 21


def test_one_device_takes_its_passes() -> None:
    assert pipeline_seconds([StageTimes(1, 2)], 4, "1f1b") == 12


def test_two_uneven_stages_by_hand() -> None:
    # Forward 1 and 2, backward 1 and 2, two micro-batches. The second stage computes from 1 to 9
    # without a break; the first needs one more second for the last way back.
    assert pipeline_seconds([StageTimes(1, 1), StageTimes(2, 2)], 2, "1f1b") == 10


def test_a_hop_delays_both_ways() -> None:
    assert pipeline_seconds([StageTimes(1, 1, 5), StageTimes(1, 1)], 1, "1f1b") == 14


def test_what_a_stage_holds() -> None:
    assert [num_in_flight(stage, 4, 8, "1f1b") for stage in range(4)] == [4, 3, 2, 1]
    assert [num_in_flight(stage, 4, 2, "1f1b") for stage in range(4)] == [2, 2, 2, 1]
    assert [num_in_flight(stage, 4, 8, "gpipe") for stage in range(4)] == [8] * 4


@given(st.integers(1, 6), st.integers(1, 20), st.sampled_from(ORDERS))
def test_no_stage_ever_holds_more_than_it_is_said_to(stages: int, count: int, order: Order) -> None:
    for stage in range(stages):
        held = peak = 0
        done = passes(stage, stages, count, order)
        for is_forward in done:
            held += 1 if is_forward else -1
            peak = max(peak, held)
            assert held >= 0
        assert peak == num_in_flight(stage, stages, count, order)
        assert (held, len(done)) == (0, 2 * count)


@given(STAGES, st.integers(1, 12), st.sampled_from(ORDERS))
def test_the_closed_form_is_never_above_what_is_played(
    stages: list[StageTimes], count: int, order: Order
) -> None:
    stages[-1] = StageTimes(stages[-1].forward, stages[-1].backward)
    played = pipeline_seconds(stages, count, order)
    assert played >= count * max(stage.busy for stage in stages)
    if len({(stage.forward, stage.backward) for stage in stages}) == 1:
        assert played >= estimated_seconds(stages, count) - 1e-9


@given(STAGES)
def test_many_micro_batches_continue_the_line(stages: list[StageTimes]) -> None:
    stages[-1] = StageTimes(stages[-1].forward, stages[-1].backward)
    near, far = (pipeline_seconds(stages, count, "1f1b") for count in (400, 1400))
    assert (far - near) / 1000 >= max(stage.busy for stage in stages) - 1e-9

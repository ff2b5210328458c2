import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.serving.pace import (
    Pass,
    StagePass,
    batch_sizes,
    best_pace,
    pace_of,
    pipeline_pass,
)


def test_two_micro_batches_keep_two_equal_stages_busy() -> None:
    pace = pace_of(8, Pass(slowest=0.1, latency=0.2), room=9, num_stages=2, goal=None)
    assert pace is not None
    assert pace.micro_batches == 2
    assert pace.seconds == pytest.approx(0.2)
    assert pace.tokens_per_second == pytest.approx(80.0)


def test_long_hops_are_filled_with_more_micro_batches() -> None:
    pace = pace_of(8, Pass(slowest=0.1, latency=0.5), room=9, num_stages=2, goal=None)
    assert pace is not None
    assert pace.micro_batches == 5
    assert pace.tokens_per_second == pytest.approx(80.0)


def test_a_goal_leaves_fewer_under_way() -> None:
    pace = pace_of(8, Pass(slowest=0.1, latency=0.2), room=9, num_stages=4, goal=0.3)
    assert pace is not None
    assert pace.micro_batches == 3


def test_a_goal_shorter_than_one_pass_is_not_met() -> None:
    assert pace_of(1, Pass(slowest=0.1, latency=0.2), room=9, num_stages=2, goal=0.15) is None


def test_memory_limits_the_sequences() -> None:
    pace = best_pace(batch_sizes(), lambda b: Pass(1.0 + b / 100, 1.0 + b / 100), 10, 1, None)
    assert pace is not None
    assert pace.num_sequences == 10


def test_sizes_of_a_micro_batch_rise_by_a_sixth() -> None:
    assert batch_sizes(20) == (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20)


def test_stages_behind_each_other_add_up() -> None:
    # A tenth of the passes takes 0.3 s in the first stage and 0.2 s in the second.
    stages = [StagePass(0.12, 0.12, 0.3), StagePass(0.11, 0.13, 0.2)]
    taken = pipeline_pass(stages, 0.01, 0.02, 0.1)
    assert taken.slowest == 0.12
    assert taken.latency == pytest.approx(0.26)
    assert taken.slowest_plain == pytest.approx((0.12 - 0.03) / 0.9)
    assert taken.long_latency == pytest.approx(0.52)


def test_where_every_pass_takes_prompts_none_is_in_the_way_of_others() -> None:
    taken = pipeline_pass([StagePass(0.1, 0.1, 0.1)] * 4, 0.0, 0.0, 1.0)
    assert taken.round_seconds(4) == pytest.approx(0.4)


@pytest.mark.parametrize(("num_stages", "share"), [(4, 0.1), (12, 0.1), (12, 0.3), (24, 0.2)])
def test_long_passes_hold_up_those_behind_them(num_stages: int, share: float) -> None:
    plain, long = 1.0, 3.0
    mean = plain + share * (long - plain)
    stages = [StagePass(mean, mean, long)] * num_stages
    predicted = pipeline_pass(stages, 0.0, 0.0, share).round_seconds(num_stages)
    played = _round_played(num_stages, share, plain, long)
    # The mean of a stage alone misses up to half of it.
    assert 0.85 * played < predicted < 1.02 * played
    assert num_stages * mean < 0.9 * played


def _round_played(num_stages: int, share: float, plain: float, long: float) -> float:
    """Seconds of a round of as many micro-batches as stages, played pass by pass."""
    chance, rounds = random.Random(5), 300
    free = [0.0] * num_stages
    ready = [0.0] * num_stages
    for _ in range(rounds):
        for batch in range(num_stages):
            seconds = long if chance.random() < share else plain
            for stage in range(num_stages):
                ready[batch] = free[stage] = max(ready[batch], free[stage]) + seconds
    return max(ready) / rounds


SECONDS = st.floats(0.01, 1.0)


@given(SECONDS, SECONDS, SECONDS, st.floats(0.0, 1.0), st.floats(0.05, 20.0))
def test_as_many_are_under_way_as_keep_to_a_goal(
    slowest: float, latency: float, more: float, share: float, goal: float
) -> None:
    taken = Pass(slowest, latency, slowest, latency + more, share)
    most = taken.most_within(goal)
    assert all(
        taken.round_seconds(count) <= taken.round_seconds(count + 1) for count in range(1, 20)
    )
    assert most == 0 or taken.round_seconds(most) <= goal * (1 + 1e-6)
    assert taken.round_seconds(most + 1) > goal * (1 - 1e-6)

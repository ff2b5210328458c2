import pytest

from banyan.planner.serving.pace import Pass, batch_sizes, best_pace, pace_of


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

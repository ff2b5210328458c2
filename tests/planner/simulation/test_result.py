"""The figures of a simulation are those of its requests and devices."""

from array import array

import numpy as np
import pytest

from banyan.planner.plan import Stage
from banyan.planner.simulation.result import (
    FINISHED,
    TOO_LONG,
    SimulationResult,
    Usage,
    device_uses,
    figures,
)
from banyan.planner.simulation.trace import Trace
from banyan.planner.workload import Goal
from tests.planner.simulation.fleets import inventory_of


def _result() -> SimulationResult:
    return SimulationResult(
        trace=Trace(np.array([0.0, 1.0, 2.0]), np.array([10, 20, 30]), np.array([5, 1, 7])),
        first_token=np.array([2.0, 2.0, np.nan]),
        finished=np.array([10.0, 2.0, np.nan]),
        reason=np.array([FINISHED, FINISHED, TOO_LONG], np.int8),
        replica=np.array([0, 0, -1], np.int32),
        preempted=np.array([1, 0, 0], np.int32),
        bin_seconds=5.0,
        usage=(
            Usage(
                0, (Stage(0, 2, ("d0",)), Stage(2, 4, ("d1",))), array("d", [5, 3]), (6.0, 2.0), 9
            ),
        ),
        failures=(),
        num_events=12,
    )


def test_times_are_those_of_whole_answers() -> None:
    found = figures(_result(), inventory_of(2), Goal())
    assert (found.num_requests, found.num_finished, found.num_preempted) == (3, 2, 1)
    assert found.refused == {"longer than the KV cache of any replica": 1}
    assert found.milliseconds["ttft"] == {"mean": 1500, "p50": 1000, "p95": 2000, "p99": 2000}
    assert found.milliseconds["tpot"]["mean"] == 2000  # 8 s for 4 tokens behind the first
    assert found.tokens_per_second == 6 / 10


@pytest.mark.parametrize(
    ("goal", "good"),
    [(Goal(), 2), (Goal(time_to_first_token=1.5), 1), (Goal(time_per_output_token=1.9), 1)],
)
def test_answers_within_the_goal_are_counted(goal: Goal, good: int) -> None:
    assert figures(_result(), inventory_of(2), goal).num_good == good


def test_devices_are_busy_for_their_parts() -> None:
    first, second = device_uses(_result(), inventory_of(2))
    assert (first.name, first.busy_seconds) == ("d0", 6.0)
    assert (second.name, second.busy_seconds) == ("d1", 2.0)
    assert second.spans == pytest.approx((0.25, 0.15))


def test_money_and_energy_are_those_of_all_devices_of_the_plan() -> None:
    found = figures(_result(), inventory_of(2), Goal())
    assert found.utilisation == {"small": pytest.approx(0.4)}
    # 8 s at 100 W and 12 s at 20 W; 20 s at 3.6 an hour and 0.1 a kWh.
    assert found.joules == pytest.approx(1040)
    assert found.cost == pytest.approx(20 * 3.6 / 3600 + 1040 / 3.6e6 * 0.1)
    assert found.cost_per_million_tokens == pytest.approx(1e6 * (found.cost or 0) / 6)
    assert found.plain()["refused"] == found.refused

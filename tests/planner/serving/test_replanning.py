from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.costs import RooflineCost
from banyan.planner.inventory import Inventory
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.plan_check import check_plan
from banyan.planner.report import PlanningChoices
from banyan.planner.serving.forecast import forecast
from banyan.planner.serving.placed import Task
from banyan.planner.serving.replanning import (
    FleetCondition,
    conditioned,
    expected_gain,
    expected_seconds,
    replan,
)
from banyan.planner.workload import Workload
from tests.planner.shapes import dense_model, two_hosts

ONE = PlanningChoices(most_replicas=1, prefill_apart=False)


def task_over(names: str, num_layers: int = 12) -> Task:
    """Serve one copy on some of the devices a, b (alike, one host) and c (half as fast)."""
    inventory = replace(
        two_hosts(), devices=tuple(d for d in two_hosts().devices if d.name in names)
    )
    workload = Workload(prompt_tokens=200, answer_tokens=100)
    return Task(dense_model(num_layers), inventory, workload, RooflineCost(), ONE)


def layers_of(plan: Plan) -> dict[str, int]:
    (replica,) = plan.replicas
    return {stage.devices[0]: stage.num_layers for stage in replica.stages}


def test_two_alike_share_the_layers_of_one_copy_and_one_alone_takes_all() -> None:
    task = task_over("ab")
    assert layers_of(replan(task, FleetCondition())) in ({"a": 6, "b": 6}, {"b": 6, "a": 6})
    assert layers_of(replan(task, FleetCondition(missing=frozenset("b")))) == {"a": 12}


def test_a_device_that_takes_twice_as_long_gets_half_the_layers() -> None:
    task = task_over("ab")
    slow = FleetCondition(slowdowns={"b": 2.0})
    found = replan(task, slow)
    assert layers_of(found) == {"a": 8, "b": 4}
    even = replan(task, FleetCondition())
    assert 1.2 < expected_gain(task, slow, even, found) < 1.6
    assert expected_gain(task, slow, found, found) == 1.0


def test_a_plan_that_needs_what_is_gone_is_worth_nothing() -> None:
    task, gone = task_over("ab"), FleetCondition(missing=frozenset("b"))
    even = replan(task, FleetCondition())
    assert expected_gain(task, gone, even, replan(task, gone)) == float("inf")


def test_where_nothing_is_left_or_fits_it_is_said_what_is_missing() -> None:
    task = task_over("ab")
    with pytest.raises(InputError, match="no device is left: a, b cannot be used"):
        replan(task, FleetCondition(missing=frozenset("ab")))
    # 1,200 layers of 2 MB do not fit into one device of 1 GB.
    with pytest.raises(InputError, match=r"without b, dense cannot be served so.*short"):
        replan(task_over("ab", num_layers=700), FleetCondition(missing=frozenset("b")))


def test_shares_of_a_step_follow_the_layers() -> None:
    task = task_over("ab")
    stages = (Stage(0, 9, ("a",)), Stage(9, 12, ("b",)))
    plan = replace(replan(task, FleetCondition()), replicas=(Replica(stages),))
    shares = expected_seconds(task, plan)
    # The head is with b.
    assert 2.0 < shares["a"] / shares["b"] < 3.0


def test_the_price_of_a_slow_device_stays() -> None:
    task = task_over("ab")
    assert task.inventory.price_per_hour["fast"] == 2.0
    slow = conditioned(task, FleetCondition(slowdowns={"b": 3.0}))
    kind = slow.inventory.device("b").type
    assert kind.name == "fast, 3 times slower"
    assert slow.inventory.price_per_hour[kind.name] == 2.0
    assert kind.memory_bytes == task.inventory.device("b").type.memory_bytes


@settings(max_examples=8, deadline=None)
@given(
    missing=st.sets(st.sampled_from("abc"), max_size=2),
    slowdowns=st.dictionaries(st.sampled_from("abc"), st.floats(1.0, 8.0)),
    num_layers=st.integers(3, 24),
)
def test_whatever_is_gone_or_slow_the_plan_can_run_and_beats_each_device_alone(
    missing: set[str], slowdowns: dict[str, float], num_layers: int
) -> None:
    task = task_over("abc", num_layers)
    condition = FleetCondition(missing=frozenset(missing), slowdowns=slowdowns)
    plan = replan(task, condition)
    now = conditioned(task, condition)
    assert len(plan.replicas) == 1
    assert not missing & set(plan.replicas[0].all_devices)
    assert check_plan(plan, task.shape, _as_usual(now.inventory, task.inventory)) == ()
    assert plan.prediction is not None
    for device in now.inventory.devices:
        alone = replace(plan, replicas=(Replica((Stage(0, num_layers, (device.name,)),)),))
        found = forecast(alone, now).prediction
        assert found is not None
        assert found.tokens_per_second <= plan.prediction.tokens_per_second * (1 + 1e-9)


def _as_usual(now: Inventory, usual: Inventory) -> Inventory:
    """Devices that are left, as they should be: what a plan may name does not depend on speed."""
    return replace(now, devices=tuple(usual.device(device.name) for device in now.devices))

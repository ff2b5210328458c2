"""Replicas together: every request is answered or told why, and nothing else happens to it."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.costs import RooflineCost, decode_step, prefill_step
from banyan.planner.inventory import Inventory
from banyan.planner.plan import Plan, Replica, Stage
from banyan.planner.simulation.failures import Failure
from banyan.planner.simulation.fleet import SimulationOptions, simulate
from banyan.planner.simulation.replicas import EnginePolicy
from banyan.planner.simulation.result import FINISHED, NO_REPLICA, TOO_LONG, SimulationResult
from banyan.planner.simulation.routing import ROUTINGS
from banyan.planner.simulation.stage_costs import Devices, StageCosts
from banyan.planner.simulation.trace import Lengths, Trace, made_trace
from tests.planner.simulation.fleets import MODEL, inventory_of, plan_of, single

COSTS = RooflineCost()
TWO_STAGES = Replica((Stage(0, 2, ("d0",)), Stage(2, 4, ("d1",))))
APART = Replica((Stage(0, 4, ("d0",)),), prefill=(Stage(0, 4, ("d1",)),))


def trace_of(*requests: tuple[float, int, int]) -> Trace:
    arrival, prompt, answer = zip(*requests, strict=True)
    return Trace(
        np.array(arrival, np.float64), np.array(prompt, np.int32), np.array(answer, np.int32)
    )


def run(
    plan: Plan,
    trace: Trace,
    inventory: Inventory | None = None,
    failures: tuple[Failure, ...] = (),
    **options: Any,
) -> SimulationResult:
    chosen = replace(SimulationOptions(), **options)
    return simulate(
        plan, MODEL, inventory or inventory_of(4), COSTS, trace, options=chosen, failures=failures
    )


def test_one_request_on_one_device_takes_what_its_steps_cost() -> None:
    result = run(plan_of(single("d0")), trace_of((1.0, 64, 2)))
    plan = plan_of(single("d0"))
    costs = StageCosts(MODEL, plan.replicas[0].stages, Devices(inventory_of(4)), COSTS)
    first = costs.round(prefill_step(64)).seconds
    second = costs.round(decode_step(1, 65)).seconds
    assert result.first_token[0] == pytest.approx(1 + first, rel=0.02)
    assert result.finished[0] - result.first_token[0] == pytest.approx(second, rel=0.02)


def test_equal_replicas_take_turns() -> None:
    result = run(plan_of(single("d0"), single("d1")), trace_of(*[(0.0, 50, 50)] * 10))
    assert np.bincount(result.replica).tolist() == [5, 5]


@pytest.mark.parametrize("replica", [TWO_STAGES, APART])
def test_replicas_of_two_devices_keep_both_busy(replica: Replica) -> None:
    result = run(plan_of(replica), made_trace(50, 10, Lengths(prompt=80, answer=40), seed=1))
    assert (result.reason == FINISHED).all()
    shares = {name for usage in result.usage for name in usage.device_shares()}
    assert shares == {"d0", "d1"}
    assert (result.first_token > result.trace.arrival).all()
    assert (result.finished >= result.first_token).all()


def test_a_stage_is_idle_while_the_other_has_the_only_sequence() -> None:
    result = run(plan_of(TWO_STAGES), trace_of((0.0, 20, 400)))
    (usage,) = result.usage
    shares = usage.device_shares()
    assert 0.2 < shares["d0"] < 0.55
    assert 0.2 < shares["d1"] < 0.55


def test_a_request_longer_than_any_cache_is_told_so() -> None:
    result = run(plan_of(single("d0")), trace_of((0.0, 10_000, 10), (0.0, 10, 10)))
    assert result.reason.tolist() == [TOO_LONG, FINISHED]
    assert math.isnan(result.first_token[0])


def test_a_long_request_goes_to_the_replica_that_can_hold_it() -> None:
    plan = plan_of(single("d0"), single("d1"), Replica((Stage(0, 4, ("d2", "d3")),)))
    result = run(plan, trace_of(*[(0.0, 3_000, 10)] * 3))
    assert result.reason.tolist() == [FINISHED] * 3
    assert set(result.replica.tolist()) == {2}


def test_requests_of_a_device_that_stops_go_on_elsewhere() -> None:
    plan = plan_of(single("d0"), single("d1"))
    stop = Failure(at=0.1, device="d0")
    result = run(plan, trace_of(*[(0.0, 50, 300)] * 6), failures=(stop,), notice_seconds=0.5)
    assert (result.reason == FINISHED).all()
    assert set(result.replica.tolist()) == {1}
    assert (result.first_token < 0.1).any()


def test_with_the_last_replica_gone_for_good_requests_are_told_so() -> None:
    stop = Failure(at=0.05, device="d0")
    result = run(plan_of(single("d0")), trace_of((0.0, 50, 300), (5.0, 5, 5)), failures=(stop,))
    assert result.reason.tolist() == [NO_REPLICA, NO_REPLICA]


def test_when_the_last_replica_returns_its_requests_go_on() -> None:
    stop = Failure(at=0.05, device="d0", seconds=10.0)
    result = run(plan_of(single("d0")), trace_of((0.0, 50, 300), (5.0, 5, 5)), failures=(stop,))
    assert (result.reason == FINISHED).all()
    assert (result.finished > 10.05).all()


def test_a_slow_device_is_slow_for_its_time() -> None:
    trace = trace_of((0.0, 50, 500))
    usual = run(plan_of(single("d0")), trace).finished[0]
    slow = Failure(at=0.0, device="d0", kind="slow", seconds=usual, factor=2.0)
    delayed = run(plan_of(single("d0")), trace, failures=(slow,)).finished[0]
    assert delayed == pytest.approx(1.5 * usual, rel=0.02)


def test_a_shared_beginning_of_prompts_saves_its_time() -> None:
    trace = trace_of((0.0, 800, 2))
    plain = run(plan_of(single("d0")), trace).first_token[0]
    shared = run(plan_of(single("d0")), trace, shared_prompt_share=0.9).first_token[0]
    assert shared < 0.5 * plain


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (replace(plan_of(single("d0")), model_fingerprint="other"), "the plan is for"),
        (plan_of(), "no replica"),
        (plan_of(single("x")), "device 'x' is not in the inventory"),
        (plan_of(single("d0"), single("d0")), "is in replicas 0 and 1"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: Plan, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(plan, trace_of((0.0, 1, 1)))


def test_devices_that_do_not_reach_each_other_are_refused() -> None:
    inventory = replace(inventory_of(4), between_hosts=None)
    plan = plan_of(Replica((Stage(0, 2, ("d0",)), Stage(2, 4, ("d2",)))))
    with pytest.raises(InputError, match="do not reach each other"):
        run(plan, trace_of((0.0, 1, 1)), inventory)


REQUESTS = st.lists(
    st.tuples(st.floats(0, 2), st.integers(1, 600), st.integers(1, 200)), min_size=1, max_size=25
).map(lambda rows: trace_of(*sorted(rows)))
PLANS = st.sampled_from(
    [
        plan_of(single("d0")),
        plan_of(single("d0"), single("d1"), single("d2")),
        plan_of(TWO_STAGES, single("d2")),
        plan_of(APART, single("d2")),
        plan_of(Replica((Stage(0, 4, ("d0",), attention=("d1",)),), max_sequences=3)),
    ]
)
FAILURES = st.lists(
    st.builds(
        Failure,
        at=st.floats(0, 3),
        device=st.sampled_from(["d0", "d1", "d2", "d3"]),
        kind=st.sampled_from(["stop", "slow"]),
        seconds=st.sampled_from([0.0, 0.01, 1.0, math.inf]),
        factor=st.sampled_from([0.5, 3.0]),
    ),
    max_size=5,
).map(tuple)


@settings(max_examples=80, deadline=None)
@given(PLANS, REQUESTS, FAILURES, st.sampled_from(ROUTINGS), st.sampled_from([0.0, 0.3]))
def test_every_request_is_answered_or_told_why(
    plan: Plan, trace: Trace, failures: tuple[Failure, ...], routing: str, share: float
) -> None:
    options: dict[str, Any] = {
        "routing": routing,
        "notice_seconds": 0.05,
        "shared_prompt_share": share,
        "policy": EnginePolicy(token_budget=64, max_running=8),
    }
    result = run(plan, trace, failures=failures, **options)
    whole = result.reason == FINISHED
    assert np.isfinite(result.finished[whole]).all()
    assert np.isnan(result.finished[~whole]).all()
    assert (result.first_token[whole] > trace.arrival[whole]).all()
    assert (result.finished[whole] >= result.first_token[whole]).all()
    if not any(f.kind == "stop" and f.seconds == math.inf for f in failures):
        assert NO_REPLICA not in result.reason
    # Nobody works longer than there is time, or without steps.
    for usage in result.usage:
        assert sum(usage.busy) <= result.seconds + 10 * 3.0
        # A step that a failure cut short kept the device busy and counts for nothing.
        assert not usage.num_steps or sum(usage.busy) > 0
    again = run(plan, trace, failures=failures, **options)
    assert again.finished.tobytes() == result.finished.tobytes()
    assert again.first_token.tobytes() == result.first_token.tobytes()


@settings(max_examples=30, deadline=None)
@given(REQUESTS)
def test_one_engine_is_busy_exactly_while_it_has_requests(trace: Trace) -> None:
    result = run(plan_of(single("d0")), trace)
    whole = result.reason == FINISHED
    spans = sorted(zip(trace.arrival[whole], result.finished[whole], strict=True))
    busy, reach = 0.0, 0.0
    for start, end in spans:
        busy += max(0.0, end - max(start, reach))
        reach = max(reach, end)
    assert sum(result.usage[0].busy) == pytest.approx(busy, rel=1e-9, abs=1e-9)

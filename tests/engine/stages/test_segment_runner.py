"""The segments of one process: what they are given, where what they give goes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from banyan.engine.stages.part import ENGINE
from banyan.engine.stages.segment_runner import SegmentRunner
from banyan.foundation.errors import StageFailed
from tests.engine.stages.segments import Adding, segment, step

Sent = list[tuple[str, str, int, dict[str, float]]]


def run_all(runner: SegmentRunner) -> int:
    num_run = 0
    while runner.run_next():
        num_run += 1
    return num_run


@pytest.fixture
def sent() -> Sent:
    return []


def sender(sent: Sent) -> Any:
    def send(source: str, place: str, number: int, values: Mapping[str, Any]) -> None:
        sent.append((source, place, number, {k: float(v[0]) for k, v in values.items()}))

    return send


def test_a_worker_sends_each_place_what_it_takes_and_the_engine_the_results(sent: Sent) -> None:
    runner = SegmentRunner(
        {"a": Adding({0: ("v", "w"), 2: ("logits",)})},
        [
            segment(0, "a", {}, ("v", "w"), {"b": ("v",), "c": ("v", "w")}),
            segment(2, "a", {"u": "b", "w": "a"}, ("logits",), {ENGINE: ("logits",)}),
        ],
        sender(sent),
    )
    runner.begin(1, step(1))
    assert run_all(runner) == 1
    assert sent == [("a", "b", 1, {"v": 1.0}), ("a", "c", 1, {"v": 1.0, "w": 1.0})]
    runner.receive("b", 1, {"u": np.array([10], np.float32)})
    assert run_all(runner) == 1
    assert sent[2:] == [("a", ENGINE, 1, {"logits": 12.0})]
    assert not runner.is_waiting


def test_what_stays_here_outlives_the_same_segment_of_the_next_step(sent: Sent) -> None:
    runner = SegmentRunner(
        {"a": Adding({0: ("v",), 2: ("logits",)})},
        [
            segment(0, "a", {}, ("v",), {"b": ("v",)}),
            segment(2, "a", {"u": "b", "v": "a"}, ("logits",), {ENGINE: ("logits",)}),
        ],
        sender(sent),
        has_several_steps=True,
    )
    runner.begin(1, step(1))
    runner.begin(2, step(100))
    assert run_all(runner) == 2
    for number in (1, 2):
        runner.receive("b", number, {"u": np.zeros(1, np.float32)})
    assert run_all(runner) == 2
    assert [values for _, to, _, values in sent if to == ENGINE] == [
        {"logits": 2.0},
        {"logits": 200.0},
    ]


def test_the_engine_collects_results_of_its_own_and_of_others(sent: Sent) -> None:
    runner = SegmentRunner(
        {"a": Adding({0: ("v",)}), "c": Adding({2: ("hidden",)})},
        [
            segment(0, "a", {}, ("v",), {"b": ("v",), "c": ("v",)}),
            segment(2, "c", {"v": "a"}, ("hidden",), {ENGINE: ("hidden",)}),
        ],
        sender(sent),
        results=[("b", "logits"), ("c", "hidden")],
    )
    runner.begin(5, step(3))
    run_all(runner)
    assert sent == [("a", "b", 5, {"v": 3.0})]
    assert runner.results == {}
    runner.receive("b", 5, {"logits": np.array([9], np.float32)})
    run_all(runner)
    assert {name: float(array[0]) for name, array in runner.results[5].items()} == {
        "logits": 9.0,
        "hidden": 6.0,
    }


def test_values_go_out_before_they_are_looked_at_and_results_only_when_they_are_sound(
    sent: Sent,
) -> None:
    runner = SegmentRunner(
        {"a": Adding({0: ("v", "logits")})},
        [segment(0, "a", {}, ("v", "logits"), {ENGINE: ("logits",), "b": ("v",)})],
        sender(sent),
    )
    runner.begin(1, step(-1))
    with pytest.raises(StageFailed, match="segment 0 on a"):
        runner.run_next()
    assert sent == [("a", "b", 1, {"v": -1.0})]


def test_nan_is_blamed_on_the_place_that_gave_it_first(sent: Sent) -> None:
    runner = SegmentRunner(
        {"a": Adding({2: ("logits",)})},
        [segment(2, "a", {"u": "b"}, ("logits",), {ENGINE: ("logits",)})],
        sender(sent),
    )
    runner.begin(1, step(1))
    runner.receive("b", 1, {"u": np.array([np.nan], np.float32)})
    with pytest.raises(StageFailed, match="on b gave NaN") as raised:
        runner.run_next()
    assert raised.value.place == "b"
    assert sent == []


def test_only_who_begins_steps_or_is_within_one_is_awaited(sent: Sent) -> None:
    first = SegmentRunner(
        {"a": Adding({0: ("v",)})}, [segment(0, "a", {}, ("v",), {"b": ("v",)})], sender(sent)
    )
    second = SegmentRunner(
        {"b": Adding({1: ("logits",)})},
        [segment(1, "b", {"v": "a"}, ("logits",), {ENGINE: ("logits",)})],
        sender(sent),
    )
    assert first.is_awaited
    assert not second.is_awaited
    second.begin(1, step(1))
    assert second.is_awaited

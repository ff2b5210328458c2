"""What a group of devices computes, sends and holds."""

from dataclasses import dataclass, replace

import pytest

from banyan.planner.costs import Part, StepShape
from banyan.planner.inventory import DeviceType, Link
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.serving.groups import (
    Group,
    StageSeconds,
    group_memory,
    helper_bytes,
    stage_seconds,
    sum_seconds,
)
from tests.planner.shapes import FAST, SLOW, dense_model

STEP = StepShape(num_tokens=8, num_rows=8, cached_tokens=0.0, attended_pairs=0.0)


@dataclass(frozen=True)
class RoundCosts:
    """A layer takes 1 s whole; attention and experts are a tenth of it each."""

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        work = 0.8 * part.dense + 0.1 * part.attention + 0.1 * part.experts
        return work * part.share * (part.end_layer - part.first_layer)

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        return 1000.0 * part.share * part.dense

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        return 2.0 * part.share * part.attention


COSTS = RoundCosts()
APART = Group(
    FAST, helper=SLOW, helper_size=2, helper_work="attention", outer=Link(1e9, seconds=1e-3)
)


def test_names_are_those_a_person_would_use() -> None:
    assert Group(FAST).name == "fast"
    assert Group(FAST, size=4).name == "4 x fast"
    assert replace(APART, size=4).name == "4 x fast + 2 x slow (attention)"
    assert Group(FAST).key != Group(FAST, size=2).key


def test_devices_and_helpers_share_what_there_is_to_do() -> None:
    assert APART.main_part(1, 3) == Part(1, 3, attention=False)
    assert APART.helper_part(1, 3) == Part(1, 3, dense=False, experts=False, share=0.5)
    assert Group(FAST, size=4).main_part(0, 2) == Part(0, 2, share=0.25)
    assert Group(FAST, size=4).helper_part(0, 2) is None


def test_two_sums_in_each_layer_go_round_the_devices() -> None:
    model = dense_model()
    ring = Group(FAST, size=4, inner=Link(1e6, seconds=1e-3))
    moved = 2 * 3 / 4 * 8 * model.token_bytes
    assert sum_seconds(model, ring, 3, 8) == pytest.approx(2 * 3 * (2 * 3 * 1e-3 + moved / 1e6))
    assert sum_seconds(model, Group(FAST), 3, 8) == 0.0


def test_attention_apart_sends_queries_keys_and_values_and_what_it_gives() -> None:
    model = dense_model()
    assert helper_bytes(model, 0, "attention") == (2 * 256 + 128) * 2
    assert helper_bytes(model, 0, "experts") == 0.0
    experts = LayerShape(1, 1, 1, expert_weights=10, num_experts=4, top_k=1)
    mixed = replace(model, layers=(experts,))
    assert helper_bytes(mixed, 0, "experts") == 2 * 256 * 2


def test_a_stage_is_as_fast_as_what_is_busy_longest_and_as_late_as_all_of_it() -> None:
    model = dense_model()
    found = stage_seconds(COSTS, model, APART, (0, 2), STEP)
    wire = 2 * (2e-3 + helper_bytes(model, 0, "attention") * 8 / 1e9)
    assert found.main == pytest.approx(1.8)
    assert found.helper == pytest.approx(0.1)
    assert found.wire == pytest.approx(wire)
    assert found.busiest == found.main
    assert found.latency == pytest.approx(1.9 + wire)
    assert stage_seconds(COSTS, model, Group(FAST), (0, 2), STEP) == StageSeconds(2.0, 0.0, 0.0)


def test_the_cache_lies_where_attention_is() -> None:
    model = dense_model()
    assert group_memory(COSTS, model, APART, (0, 2), 100.0) == (1000.0, 100.0)
    assert group_memory(COSTS, model, Group(FAST, size=2), (0, 2), 100.0) == (600.0, 0.0)

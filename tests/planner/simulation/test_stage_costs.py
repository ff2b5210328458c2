"""What steps through stages cost, with numbers that can be checked by head."""

from dataclasses import dataclass, replace

import pytest

from banyan.foundation.errors import InputError
from banyan.planner.costs import Part, RooflineCost, StepShape, decode_step
from banyan.planner.inventory import DeviceType, Link
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Stage
from banyan.planner.simulation.stage_costs import Devices, StageCosts
from tests.planner.simulation.fleets import MODEL, inventory_of

FREE = replace(inventory_of(4), within_host=Link(1e30), between_hosts=Link(1e30))


@dataclass(frozen=True)
class OneSecond:
    """A second for each sequence and layer of the whole model, in equal thirds."""

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        thirds = part.dense + part.attention + part.experts
        layers = part.end_layer - part.first_layer
        return thirds / 3 * layers * step.num_tokens * part.share

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        return 1000.0 * part.dense

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        return 1.0 * part.attention


def _round(*stages: Stage, count: int = 4, **options: object) -> tuple[float, tuple[float, ...]]:
    costs = StageCosts(MODEL, stages, Devices(FREE), OneSecond(), **options)  # type: ignore[arg-type]
    found = costs.round(decode_step(count, 10))
    return found.seconds, found.busy


def test_a_step_passes_the_stages_in_turn() -> None:
    stages = Stage(0, 3, ("d0",)), Stage(3, 4, ("d1",))
    assert _round(*stages) == (16.0, (0.75, 0.25))
    assert _round(*stages, count=1) == (4.0, (0.75, 0.25))


def test_parts_that_share_a_device_are_at_one_place() -> None:
    def places(*stages: Stage) -> tuple[int, ...]:
        return StageCosts(MODEL, stages, Devices(FREE), OneSecond()).place_of_part

    one, other = Stage(0, 2, ("d0",)), Stage(2, 4, ("d1",))
    assert places(one, other) == (0, 1)
    assert places(Stage(0, 2, ("d0",)), Stage(2, 4, ("d0",))) == (0, 0)
    assert places(Stage(0, 4, ("d0",), attention=("d1",), experts=("d2",))) == (0, 1, 2)
    assert places(one, Stage(2, 4, ("d0", "d1")), Stage(3, 4, ("d2",))) == (0, 0, 1)
    # The last one joins places that were apart.
    assert places(one, other, Stage(3, 4, ("d0", "d1"))) == (0, 0, 0)


def test_devices_that_share_a_stage_halve_it() -> None:
    assert _round(Stage(0, 4, ("d0", "d1"))) == (8.0, (1.0,))


def test_parts_elsewhere_follow_each_other() -> None:
    stage = Stage(0, 4, ("d0",), attention=("d1", "d2"), experts=("d3",))
    seconds, busy = _round(stage)
    assert seconds == pytest.approx(16 / 3 * 2.5)
    assert busy == pytest.approx((0.4, 0.2, 0.4))


def test_a_slow_device_slows_its_part() -> None:
    assert _round(Stage(0, 4, ("d0", "d1")), slowness={"d1": 3.0})[0] == 24.0


def test_links_take_their_time() -> None:
    slow = replace(inventory_of(4), within_host=Link(1e30, 0.5))
    stages = Stage(0, 2, ("d0",)), Stage(2, 4, ("d1",))
    costs = StageCosts(MODEL, stages, Devices(slow), OneSecond())
    # There, and with the chosen tokens back.
    assert costs.round(decode_step(4, 10)).seconds == pytest.approx(17.0)


def test_blocks_are_those_of_the_fullest_device() -> None:
    stages = Stage(0, 2, ("d0",)), Stage(2, 4, ("d0",))
    costs = StageCosts(MODEL, stages, Devices(inventory_of(1)), OneSecond())
    assert costs.num_blocks() == (12_000_000 - 2000) // (2 * 16)
    assert costs.num_blocks(0.5) == (6_000_000 - 2000) // (2 * 16)


def test_weights_that_do_not_fit_are_refused() -> None:
    tiny = replace(inventory_of(1).devices[0].type, memory_bytes=1000)
    costs = StageCosts(
        MODEL, [Stage(0, 4, ("d0",))], Devices(inventory_of(1, tiny)), RooflineCost()
    )
    with pytest.raises(InputError, match="its weights alone take"):
        costs.num_blocks()

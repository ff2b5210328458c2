from dataclasses import dataclass, replace

import pytest

from banyan.foundation.errors import InputError
from banyan.planner.costs import Part, StepShape, decode_step
from banyan.planner.inventory import DeviceType
from banyan.planner.model_shape import ModelShape
from banyan.planner.plan import Stage
from banyan.planner.prediction.composition import predict_step
from tests.planner.shapes import dense_model, two_hosts

TOKEN = 256 * 2
"""Bytes that one token hands on."""


@dataclass(frozen=True)
class SecondsByLayer:
    """A second for each layer's dense half, a second for its attention, four on the slow device."""

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        halves = (part.dense + part.attention) * (part.end_layer - part.first_layer)
        return halves * part.share * (4.0 if device.name == "slow" else 1.0)

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        return 0.0

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        return 0.0


def test_stages_follow_each_other_and_hand_tokens_on() -> None:
    stages = (Stage(0, 3, ("a",)), Stage(3, 4, ("c",)))
    found = predict_step(dense_model(), stages, two_hosts(), SecondsByLayer(), decode_step(5, 10))
    transfer = 1e-4 + 5 * TOKEN / 1e9
    assert found.seconds == pytest.approx(6 + 8 + transfer)
    assert found.busy == {"a": 6.0, "c": 8.0}
    assert found.sent == {("a", "c"): 5 * TOKEN}
    assert found.transfer_seconds == pytest.approx(transfer)
    assert found.period == 8.0


def test_attention_elsewhere_asks_and_answers_once_for_each_layer() -> None:
    stages = (Stage(0, 4, ("a",), attention=("c",)),)
    found = predict_step(dense_model(), stages, two_hosts(), SecondsByLayer(), decode_step(2, 10))
    assert found.busy == {"a": 4.0, "c": 16.0}
    # Queries of 256 numbers and a new key and value, 128 together; 256 come back. 2 bytes each.
    assert found.sent == {("a", "c"): 4 * 2 * 384 * 2, ("c", "a"): 4 * 2 * 256 * 2}
    each_layer = 2e-4 + 2 * (384 + 256) * 2 / 1e9
    assert found.transfer_seconds == pytest.approx(4 * each_layer)


def test_two_devices_of_a_stage_halve_the_work_and_add_up_twice_in_each_layer() -> None:
    stages = (Stage(0, 4, ("a", "b")),)
    found = predict_step(dense_model(), stages, two_hosts(), SecondsByLayer(), decode_step(1, 10))
    assert found.busy == {"a": 4.0, "b": 4.0}
    assert found.sent == {("a", "b"): 8 * TOKEN, ("b", "a"): 8 * TOKEN}
    assert found.seconds == pytest.approx(4.0 + 8 * 2 * TOKEN / 2 / 1e11)


def test_energy_is_that_of_work_and_of_waiting() -> None:
    inventory = two_hosts()
    idle = replace(inventory.devices[0].type, watts_idle=20.0)
    devices = (replace(inventory.devices[0], type=idle), *inventory.devices[1:])
    inventory = replace(inventory, devices=devices)
    stages = (Stage(0, 2, ("a",)), Stage(2, 4, ("b",)))
    found = predict_step(dense_model(), stages, inventory, SecondsByLayer(), decode_step(1, 10))
    waiting = found.seconds - 4.0
    assert found.joules(inventory) == pytest.approx(100 * 4 + 20 * waiting + 100 * 4)
    assert found.joules(inventory, found.period) == pytest.approx(100 * 4 + 100 * 4)


def test_devices_that_cannot_reach_each_other_are_named() -> None:
    inventory = replace(two_hosts(), between_hosts=None)
    stages = (Stage(0, 3, ("a",)), Stage(3, 4, ("c",)))
    with pytest.raises(InputError, match="'a' and 'c' have to exchange 512 bytes"):
        predict_step(dense_model(), stages, inventory, SecondsByLayer(), decode_step(1, 10))

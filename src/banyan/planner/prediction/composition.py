"""What a step costs whose parts lie on several devices: the parts, and transfers between them.

Stages compute one after the other. What a stage has elsewhere (attention, experts) is asked for
layer by layer, so each layer pays two transfers and the start of the programs. Devices of one
stage cut its tensors and add what they computed twice in each layer. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from banyan.foundation.errors import InputError
from banyan.planner.costs import CostModel, Part, StepShape
from banyan.planner.inventory import Inventory, PlannedDevice
from banyan.planner.model_shape import ModelShape, bytes_per_number
from banyan.planner.plan import Stage


@dataclass(slots=True)
class StepPrediction:
    """One step through all stages, nothing else going on.

    Attributes:
        seconds: from the first stage's begin to the last one's end.
        busy: device -> seconds in which it computes.
        sent: (device, device) -> bytes that go from the one to the other.
        transfer_seconds: of `seconds`, what transfers take.
    """

    seconds: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    sent: dict[tuple[str, str], float] = field(default_factory=dict)
    transfer_seconds: float = 0.0

    @property
    def period(self) -> float:
        """Seconds between two steps where many are under way: what the busiest device needs."""
        return max(self.busy.values(), default=0.0)

    def joules(self, inventory: Inventory, seconds: float | None = None) -> float:
        """Electric energy: each device busy for its share of `seconds`, idle for the rest.

        `seconds` is the time between two steps; None takes the whole of a lonely one. Devices whose
        power is not known count as nothing.
        """
        whole = self.seconds if seconds is None else seconds
        total = 0.0
        for name, busy in self.busy.items():
            kind = inventory.device(name).type
            total += kind.watts_busy * busy + kind.watts_idle * max(0.0, whole - busy)
        return total


def predict_step(
    model: ModelShape,
    stages: Iterable[Stage],
    inventory: Inventory,
    costs: CostModel,
    step: StepShape,
) -> StepPrediction:
    """Predict one step.

    Raises:
        InputError: a device is not in the inventory, or two that have to talk cannot.
    """
    walk = _Walk(model, inventory, costs, step)
    before: PlannedDevice | None = None
    for stage in stages:
        devices = [inventory.device(name) for name in stage.devices]
        if before is not None:
            walk.send(before, devices[:1], model.token_bytes * step.num_tokens)
        walk.stage(stage, devices)
        before = devices[0]
    return walk.found


@dataclass(slots=True)
class _Walk:
    model: ModelShape
    inventory: Inventory
    costs: CostModel
    step: StepShape
    found: StepPrediction = field(default_factory=StepPrediction)

    def stage(self, stage: Stage, devices: Sequence[PlannedDevice]) -> None:
        if not stage.attention and not stage.experts:
            part = Part(stage.first_layer, stage.end_layer, share=1 / len(devices))
            self.compute(devices, part)
            self.add_up(devices, stage.num_layers)
            return
        for layer in range(stage.first_layer, stage.end_layer):
            self.layer(stage, devices, layer)

    def layer(self, stage: Stage, devices: Sequence[PlannedDevice], layer: int) -> None:
        """One layer of which something lies elsewhere."""
        end = layer + 1
        attention, experts = self.named(stage.attention), self.named(stage.experts)
        share = 1 / len(devices)
        has_experts = bool(experts) and self.model.layers[layer].num_experts > 0
        here = Part(layer, end, True, not attention, not has_experts, share)
        self.compute(devices, here)
        self.add_up(devices, 1)
        if attention:
            shape = self.model.layers[layer]
            number = bytes_per_number(self.model.compute_dtype) * self.step.num_tokens
            asked = (shape.attention_width + shape.cache_width) * number
            part = Part(layer, end, False, True, False, 1 / len(attention))
            self.ask(devices[0], attention, part, asked, shape.attention_width * number)
        if has_experts:
            rows = self.model.token_bytes * self.step.num_tokens
            part = Part(layer, end, False, False, True, 1 / len(experts))
            self.ask(devices[0], experts, part, rows, rows)

    def named(self, names: Sequence[str]) -> list[PlannedDevice]:
        return [self.inventory.device(name) for name in names]

    def ask(
        self,
        asking: PlannedDevice,
        devices: Sequence[PlannedDevice],
        part: Part,
        asked: float,
        answered: float,
    ) -> None:
        """Let other devices compute a part: there, work, and back."""
        self.send(asking, devices, asked)
        self.compute(devices, part)
        for device in devices:
            self.send(device, [asking], answered / len(devices))

    def compute(self, devices: Sequence[PlannedDevice], part: Part) -> None:
        """All devices at once: the slowest counts."""
        longest = 0.0
        for device in devices:
            seconds = self.costs.step_seconds(self.model, part, device.type, self.step)
            self.found.busy[device.name] = self.found.busy.get(device.name, 0.0) + seconds
            longest = max(longest, seconds)
        self.found.seconds += longest

    def send(self, source: PlannedDevice, targets: Sequence[PlannedDevice], amount: float) -> None:
        """Equal parts of `amount` bytes to each target, one after the other."""
        for target in targets:
            self.transfer(source, target, amount / len(targets))

    def add_up(self, devices: Sequence[PlannedDevice], num_layers: int) -> None:
        """Sums over the devices of a stage, twice in each layer, in a ring."""
        if len(devices) == 1:
            return
        rows = self.model.token_bytes * self.step.num_tokens
        pieces = 2 * (len(devices) - 1)
        each = rows / len(devices) * pieces
        pairs = list(zip(devices, (*devices[1:], devices[0]), strict=True))
        slowest = max(self.link_seconds(one, other, rows / len(devices)) for one, other in pairs)
        for one, other in pairs:
            key = (one.name, other.name)
            self.found.sent[key] = self.found.sent.get(key, 0.0) + 2 * num_layers * each
        self.pass_time(2 * num_layers * pieces * slowest)

    def transfer(self, source: PlannedDevice, target: PlannedDevice, amount: float) -> None:
        if source == target:
            return
        key = (source.name, target.name)
        self.found.sent[key] = self.found.sent.get(key, 0.0) + amount
        self.pass_time(self.link_seconds(source, target, amount))

    def link_seconds(self, source: PlannedDevice, target: PlannedDevice, amount: float) -> float:
        link = self.inventory.link(source, target)
        if link is None:
            raise InputError(
                f"devices {source.name!r} and {target.name!r} have to exchange "
                f"{amount:.0f} bytes in each step but no link joins their hosts; add one to the "
                "inventory, or plan without one of them"
            )
        return link.transfer_seconds(amount)

    def pass_time(self, seconds: float) -> None:
        self.found.seconds += seconds
        self.found.transfer_seconds += seconds

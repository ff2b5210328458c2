"""What a step of a replica costs: its stages, what they hand on, and who is busy how long. Pure.

A step goes through the stages in turn, and in each through its dense part, its attention and its
experts, wherever they live. Parts that share a device are at one place; several steps under way
keep several places busy (`banyan.planner.simulation.places`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from banyan.foundation.errors import InputError
from banyan.planner.costs import CostModel, Part, StepShape
from banyan.planner.inventory import Inventory, Link, PlannedDevice
from banyan.planner.model_shape import ModelShape, bytes_per_number
from banyan.planner.plan import Stage

BLOCK_TOKENS = 16
"""Tokens that share a block of the KV cache, as in the engine."""

_TRANSFERS_A_LAYER = 2
_TOKEN_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class PlacedPart:
    """A part of a model on devices that share it.

    Attributes:
        part: with the share that each of the devices has.
        devices: who computes it.
        slowness: of each device, 1 for one that is as fast as its type.
    """

    part: Part
    devices: tuple[PlannedDevice, ...]
    slowness: tuple[float, ...]

    def seconds(self, model: ModelShape, costs: CostModel, step: StepShape) -> float:
        """Until the slowest of the devices is done."""
        return max(
            costs.step_seconds(model, self.part, device.type, step) * slowness
            for device, slowness in zip(self.devices, self.slowness, strict=True)
        )


@dataclass(frozen=True, slots=True)
class PlacedStage:
    """The parts of a stage, in the order in which they are computed, and what lies between."""

    parts: tuple[PlacedPart, ...]
    exchanges: tuple[tuple[Link, float], ...]

    def transfer_seconds(self, num_tokens: float) -> float:
        """Handing `num_tokens` to and fro between its parts and devices."""
        return sum(link.transfer_seconds(size * num_tokens) for link, size in self.exchanges)


@dataclass(frozen=True, slots=True)
class RoundTime:
    """One step of a replica, with nothing else under way.

    Attributes:
        seconds: until it is through.
        busy: share of that time for each part, stage after stage.
    """

    seconds: float
    busy: tuple[float, ...]


class StageCosts:
    """Times of the steps of one chain of stages.

    Args:
        model: what is computed.
        stages: in the order of the layers.
        inventory: where the devices are, and what lies between.
        costs: predicts each part.
        slowness: device -> factor on its times, for those that are slower than their type.

    Raises:
        InputError: a device is not in the inventory, or two that have to talk cannot.
    """

    def __init__(
        self,
        model: ModelShape,
        stages: Sequence[Stage],
        inventory: "Devices",
        costs: CostModel,
        *,
        slowness: Mapping[str, float] | None = None,
    ) -> None:
        self._model = model
        self._costs = costs
        self._devices = inventory
        slow = slowness or {}
        self.stages = tuple(self._place(stage, slow) for stage in stages)
        self._hops = self._hops_between(stages)

    @property
    def parts(self) -> tuple[PlacedPart, ...]:
        """All parts, stage after stage."""
        return tuple(part for stage in self.stages for part in stage.parts)

    @property
    def place_of_part(self) -> tuple[int, ...]:
        """For each part the number of its place: those that share a device are at one."""
        names = [{device.name for device in part.devices} for part in self.parts]
        places: list[int] = []
        for number, own in enumerate(names):
            shared = {place for place, other in zip(places, names, strict=False) if own & other}
            place = min(shared, default=number)
            places = [place if known in shared else known for known in places] + [place]
        numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
        return tuple(numbers[place] for place in places)

    def round(self, step: StepShape) -> RoundTime:
        """The time of one step."""
        seconds = self._hop_seconds(step)
        times: list[float] = []
        for stage in self.stages:
            own = [part.seconds(self._model, self._costs, step) for part in stage.parts]
            seconds += sum(own) + stage.transfer_seconds(step.num_tokens)
            times.extend(own)
        return RoundTime(seconds, tuple(time / seconds for time in times))

    def num_blocks(self, memory_share: float = 1.0) -> int:
        """Blocks of the KV cache that fit beside the weights; the fullest device decides.

        Args:
            memory_share: of a device's memory that both may take.

        Raises:
            InputError: the weights of a device do not fit.
        """
        held: dict[str, float] = {}
        per_token: dict[str, float] = {}
        for part in self.parts:
            for device in part.devices:
                held.setdefault(device.name, 0.0)
                per_token.setdefault(device.name, 0.0)
                held[device.name] += self._costs.weight_bytes(self._model, part.part)
                per_token[device.name] += self._costs.cache_bytes_per_token(self._model, part.part)
        found = []
        for name, weights in held.items():
            memory = int(self._devices.device(name).type.memory_bytes * memory_share)
            if weights > memory:
                raise InputError(
                    f"device {name!r} has {memory} bytes for weights and cache, and its weights "
                    f"alone take {weights:.0f}; give it fewer layers"
                )
            if per_token[name]:
                found.append(int((memory - weights) / (per_token[name] * BLOCK_TOKENS)))
        return min(found, default=0)

    def hand_over(self, other: "StageCosts", num_tokens: int) -> float:
        """Seconds to send the cache of `num_tokens` to the stages of another chain.

        Raises:
            InputError: the last device here and the first one there do not reach each other.
        """
        size = sum(self._model.cache_bytes(index) for index in range(len(self._model.layers)))
        source, target = self.parts[-1].devices[0], other.parts[0].devices[0]
        return self._devices.link(source, target).transfer_seconds(size * num_tokens)

    def _place(self, stage: Stage, slowness: Mapping[str, float]) -> PlacedStage:
        attention, experts = stage.attention, stage.experts
        placed = [
            self._part(stage, stage.devices, slowness, True, not attention, not experts),
        ]
        exchanges = list(self._reductions(stage))
        layers = self._model.layers[stage.first_layer : stage.end_layer]
        number = bytes_per_number(self._model.compute_dtype)
        if attention:
            placed.append(self._part(stage, attention, slowness, False, True, False))
            link = self._slowest_link(stage.devices[:1], attention)
            for layer in layers:
                there = (layer.attention_width + layer.cache_width) * number
                back = layer.attention_width * number
                share = len(attention)
                exchanges += [(link, there / share), (link, back / share)]
        if experts:
            placed.append(self._part(stage, experts, slowness, False, False, True))
            link = self._slowest_link(stage.devices[:1], experts)
            for layer in layers:
                if layer.num_experts:
                    exchanges += [(link, self._model.token_bytes)] * _TRANSFERS_A_LAYER
        return PlacedStage(tuple(placed), tuple(exchanges))

    def _part(
        self,
        stage: Stage,
        names: Sequence[str],
        slowness: Mapping[str, float],
        dense: bool,
        attention: bool,
        experts: bool,
    ) -> PlacedPart:
        part = Part(
            stage.first_layer, stage.end_layer, dense, attention, experts, share=1 / len(names)
        )
        devices = tuple(self._devices.device(name) for name in names)
        return PlacedPart(part, devices, tuple(slowness.get(name, 1.0) for name in names))

    def _reductions(self, stage: Stage) -> Sequence[tuple[Link, float]]:
        """Two sums of partial results a layer, in a ring, where devices share a stage."""
        count = len(stage.devices)
        if count == 1:
            return ()
        link = self._slowest_link(stage.devices, stage.devices)
        size = 2 * (count - 1) / count * self._model.token_bytes
        return ((link, size),) * (_TRANSFERS_A_LAYER * stage.num_layers)

    def _slowest_link(self, sources: Sequence[str], targets: Sequence[str]) -> Link:
        links = [
            self._devices.link(self._devices.device(one), self._devices.device(other))
            for one in sources
            for other in targets
            if one != other
        ]
        sample = self._model.token_bytes
        # A device that is both source and target hands over to itself.
        return max(
            links, key=lambda link: link.transfer_seconds(sample), default=Link(float("inf"))
        )

    def _hops_between(self, stages: Sequence[Stage]) -> tuple[tuple[Link, Link | None], ...]:
        forward = [
            self._slowest_link(one.devices[-1:], other.devices[:1])
            for one, other in pairwise(stages)
        ]
        back = None
        if len(stages) > 1:
            back = self._slowest_link(stages[-1].devices[:1], stages[0].devices[:1])
        return tuple((link, back if number == 0 else None) for number, link in enumerate(forward))

    def _hop_seconds(self, piece: StepShape) -> float:
        """From stage to stage, and with the chosen tokens back to the first."""
        seconds = 0.0
        for link, back in self._hops:
            seconds += link.transfer_seconds(self._model.token_bytes * piece.num_tokens)
            if back is not None:
                seconds += back.transfer_seconds(_TOKEN_ID_BYTES * piece.num_rows)
        return seconds


class Devices:
    """An inventory that finds devices by name in no time, however many there are."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._by_name = {device.name: device for device in inventory.devices}

    def device(self, name: str) -> PlannedDevice:
        """Find a device.

        Raises:
            InputError: there is none of this name.
        """
        found = self._by_name.get(name)
        return self.inventory.device(name) if found is None else found

    def link(self, source: PlannedDevice, target: PlannedDevice) -> Link:
        """What lies between two devices.

        Raises:
            InputError: they do not reach each other.
        """
        link = self.inventory.link(source, target)
        if link is None:
            raise InputError(
                f"devices {source.name!r} on host {source.host!r} and {target.name!r} on host "
                f"{target.host!r} do not reach each other; add a link between them to the inventory"
            )
        return link

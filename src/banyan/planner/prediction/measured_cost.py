"""The cost model of measured devices: each piece of a step's work at the rate it was measured at.

Devices that were never measured, and forms of weights or keys that were not, are predicted from
the rates an inventory gives (`RooflineCost`); `reason` says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from banyan.compiler.ir.symbols import evaluate
from banyan.planner.costs import CostModel, Part, RooflineCost, StepShape
from banyan.planner.inventory import DeviceType
from banyan.planner.model_shape import ModelShape
from banyan.planner.prediction.rates import DeviceRates
from banyan.planner.prediction.shape_work import shape_work
from banyan.planner.prediction.work import (
    AttentionWork,
    ElementwiseWork,
    ExpertWork,
    LinearWork,
    LookupWork,
    NodeWork,
    StepSizes,
    StepWork,
    step_sizes,
)

_Asked: TypeAlias = tuple[ModelShape, Part, str, StepShape]
_Piece: TypeAlias = tuple[str, float, StepShape, NodeWork]


@dataclass(frozen=True, slots=True)
class MeasuredCost:
    """Predicts steps from measurements.

    Attributes:
        rates: of the devices that were measured, by the name of their type.
        works: fingerprint of a model -> its work, read from its graph; others are counted from
            their shape.
        unmeasured: predicts what was never measured.
    """

    rates: Mapping[str, DeviceRates]
    works: Mapping[str, StepWork] = field(default_factory=dict)
    unmeasured: CostModel = field(default_factory=RooflineCost)
    _models: dict[ModelShape, StepWork] = field(default_factory=dict, compare=False, repr=False)
    _steps: dict[_Asked, float] = field(default_factory=dict, compare=False, repr=False)
    _nodes: dict[_Piece, float] = field(default_factory=dict, compare=False, repr=False)

    def work(self, model: ModelShape) -> StepWork:
        """The work of a model."""
        known = self._models.get(model)
        if known is None:
            known = self.works.get(model.fingerprint) or shape_work(model)
            self._models[model] = known
        return known

    def reason(self, model: ModelShape, device: DeviceType) -> str | None:
        """Why a device is predicted from its peaks and not from measurements; None: it is not."""
        rates = self.rates.get(device.name)
        if rates is None:
            return f"{device.name} was never measured"
        for node in self.work(model).nodes:
            missing = _missing_form(node, rates)
            if missing is not None:
                return f"{device.name} was never measured with {missing}"
        return None

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """See `CostModel`."""
        asked = (model, part, device.name, step)
        found = self._steps.get(asked)
        if found is None:
            if self.reason(model, device) is not None:
                return self.unmeasured.step_seconds(model, part, device, step)
            found = self._steps[asked] = self._seconds(model, part, device.name, step)
        return found

    def _seconds(self, model: ModelShape, part: Part, device: str, step: StepShape) -> float:
        """One program, kernel after kernel; layers of one shape are computed once."""
        rates, sizes = self.rates[device], step_sizes(step)
        nodes = list(self.work(model).of(part))
        if not nodes or not step.num_tokens:
            return 0.0
        total = rates.program_seconds
        for node in nodes:
            piece = (device, part.share, step, _unnamed(node))
            seconds = self._nodes.get(piece)
            if seconds is None:
                seconds = self._nodes[piece] = node_seconds(node, part.share, rates, sizes)
            total += seconds
        return total

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """See `CostModel`."""
        return self.work(model).weight_bytes(part)

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """See `CostModel`."""
        return self.work(model).cache_bytes_per_token(part)


def node_seconds(node: NodeWork, share: float, rates: DeviceRates, sizes: StepSizes) -> float:
    """Seconds of one piece of work, of which the device has a share.

    Raises:
        InputError: its form of weights or keys was not measured.
    """
    match node:
        case LinearWork():
            rows = evaluate(node.rows, sizes.symbols)
            if not rows:
                return 0.0
            return rates.linear_seconds(node.form, rows, node.columns * share, node.depth)
        case ExpertWork():
            visited = node.visited(sizes) * share
            if not visited:
                return 0.0
            each = evaluate(node.rows, sizes.symbols) / node.visited(sizes)
            return visited * rates.linear_seconds(node.form, each, node.columns, node.depth)
        case AttentionWork():
            shape = (node.heads, node.cache_heads, node.head_size)
            tokens, pairs = sizes.tokens_per_sequence, node.pairs(sizes)
            if not pairs:
                return 0.0
            return share * rates.attention_seconds(
                node.form, shape, sizes.num_sequences, tokens, pairs
            )
        case ElementwiseWork():
            kernels = max(1, node.kernels)
            return kernels * rates.elementwise_seconds(node.num_bytes(sizes) / kernels)
        case LookupWork():
            return rates.elementwise_seconds(2 * node.num_bytes(sizes))


def _missing_form(node: NodeWork, rates: DeviceRates) -> str | None:
    if isinstance(node, LinearWork | ExpertWork) and node.form not in rates.linear_forms():
        return f"{node.form} weights"
    if isinstance(node, AttentionWork) and node.form not in rates.attention_forms():
        return f"{node.form} keys"
    return None


def _unnamed(node: NodeWork) -> NodeWork:
    """The same work in a layer of no number, equal to that of every layer of its shape."""
    match node:
        case LinearWork() | ExpertWork():
            return replace(node, names=(), place=0)
        case LookupWork():
            return replace(node, name="", place=0)
        case _:
            return replace(node, place=0)

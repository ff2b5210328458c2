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
_MOST_KNOWN = 1 << 16
"""Steps that are remembered: planners ask for the same ones again, simulators for ever new ones."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """The work of a model, and for each node (by identity) the number of its kind of work.

    Layers of one shape share numbers, so that each is predicted once.
    """

    work: StepWork
    kinds: Mapping[int, int]


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
    _models: dict[ModelShape, _Counted] = field(default_factory=dict, compare=False, repr=False)
    _reasons: dict[tuple[ModelShape, str], str | None] = field(
        default_factory=dict, compare=False, repr=False
    )
    _steps: dict[_Asked, float] = field(default_factory=dict, compare=False, repr=False)

    def work(self, model: ModelShape) -> StepWork:
        """The work of a model."""
        return self._counted(model).work

    def reason(self, model: ModelShape, device: DeviceType) -> str | None:
        """Why a device is predicted from its peaks and not from measurements; None: it is not."""
        asked = (model, device.name)
        if asked not in self._reasons:
            self._reasons[asked] = self._find_reason(model, device.name)
        return self._reasons[asked]

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """See `CostModel`."""
        asked = (model, part, device.name, step)
        found = self._steps.get(asked)
        if found is None:
            if self.reason(model, device) is not None:
                return self.unmeasured.step_seconds(model, part, device, step)
            if len(self._steps) >= _MOST_KNOWN:
                self._steps.clear()
            found = self._steps[asked] = self._seconds(model, part, device.name, step)
        return found

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """See `CostModel`."""
        return self.work(model).weight_bytes(part)

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """See `CostModel`."""
        return self.work(model).cache_bytes_per_token(part)

    def _counted(self, model: ModelShape) -> _Counted:
        known = self._models.get(model)
        if known is None:
            work = self.works.get(model.fingerprint) or shape_work(model)
            numbers: dict[NodeWork, int] = {}
            kinds = {
                id(node): numbers.setdefault(_unnamed(node), len(numbers)) for node in work.nodes
            }
            known = self._models[model] = _Counted(work, kinds)
        return known

    def _find_reason(self, model: ModelShape, device: str) -> str | None:
        rates = self.rates.get(device)
        if rates is None:
            return f"{device} was never measured"
        missing = (_missing_form(node, rates) for node in self.work(model).nodes)
        first = next((form for form in missing if form is not None), None)
        return None if first is None else f"{device} was never measured with {first}"

    def _seconds(self, model: ModelShape, part: Part, device: str, step: StepShape) -> float:
        """One program, kernel after kernel."""
        rates, sizes, counted = self.rates[device], step_sizes(step), self._counted(model)
        nodes = list(counted.work.of(part))
        if not nodes or not step.num_tokens:
            return 0.0
        by_kind: dict[int, float] = {}
        total = rates.program_seconds
        for node in nodes:
            kind = counted.kinds[id(node)]
            if kind not in by_kind:
                by_kind[kind] = node_seconds(node, part.share, rates, sizes)
            total += by_kind[kind]
        return total


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

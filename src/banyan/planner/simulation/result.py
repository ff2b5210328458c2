"""What came of a simulation: times of every request, how busy every device was, what it cost."""

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.planner.inventory import Inventory
from banyan.planner.plan import Stage
from banyan.planner.simulation.failures import Failure
from banyan.planner.simulation.trace import Trace
from banyan.planner.workload import Goal

FINISHED, TOO_LONG, NO_REPLICA = 0, 1, 2
REASONS: Mapping[int, str] = {
    TOO_LONG: "longer than the KV cache of any replica",
    NO_REPLICA: "no replica came back to compute it",
}
PERCENTILES = (50, 95, 99)
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Usage:
    """How busy one engine was.

    Attributes:
        replica: its place in the plan.
        stages: what it runs.
        busy: seconds with a step under way, by span.
        part_busy: seconds of each part of its stages; empty where there is one part, which is
            busy whenever the engine is.
        num_steps: it took.
    """

    replica: int
    stages: tuple[Stage, ...]
    busy: "array[float]"
    part_busy: tuple[float, ...]
    num_steps: int

    def device_shares(self) -> dict[str, float]:
        """Device -> seconds it was busy for each second of the engine."""
        whole = sum(self.busy)
        groups = [
            group
            for stage in self.stages
            for group in (stage.devices, stage.attention, stage.experts)
            if group
        ]
        parts = self.part_busy or (whole,) * len(groups)
        shares: dict[str, float] = {}
        for group, seconds in zip(groups, parts, strict=True):
            for name in group:
                shares[name] = shares.get(name, 0.0) + (seconds / whole if whole else 0.0)
        return shares


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulationResult:
    """The outcome of every request, in the order of the trace.

    Attributes:
        first_token, finished: float64 [R] seconds after the start; NaN where it never came.
        reason: int8 [R]; why there is no answer, or `FINISHED`.
        replica: int32 [R]; who computed it last; -1 for nobody.
        preempted: int32 [R]; how often it gave way.
        bin_seconds: of the spans of `usage`.
        usage: of every engine.
        failures: that were injected.
        num_events: that were simulated.
    """

    trace: Trace
    first_token: NDArray[np.float64]
    finished: NDArray[np.float64]
    reason: NDArray[np.int8]
    replica: NDArray[np.int32]
    preempted: NDArray[np.int32]
    bin_seconds: float
    usage: tuple[Usage, ...]
    failures: tuple[Failure, ...]
    num_events: int

    @property
    def seconds(self) -> float:
        """Until the last answer was whole, or the last request came."""
        ends = self.finished[self.reason == FINISHED]
        return max(float(ends.max()) if len(ends) else 0.0, self.trace.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a simulation that people compare.

    Attributes:
        num_requests, num_finished: how many came, and got a whole answer.
        refused: reason -> how many got none.
        seconds: until the last answer.
        prompt_tokens, answer_tokens: of whole answers.
        milliseconds: "ttft", "tpot", "e2el" -> "mean", "p50", "p95", "p99".
        num_good: whole answers within the goal.
        num_preempted: times that a sequence gave way.
        utilisation: device type -> share of the time its devices were busy.
        num_devices: in the plan.
        cost: of the devices of the plan and their energy, for `seconds`; None without prices.
        currency: of `cost`.
        joules: of the devices of the plan; 0 where the power of one is not known.
    """

    num_requests: int
    num_finished: int
    refused: Mapping[str, int]
    seconds: float
    prompt_tokens: int
    answer_tokens: int
    milliseconds: Mapping[str, Mapping[str, float]]
    num_good: int
    num_preempted: int
    utilisation: Mapping[str, float]
    num_devices: int
    cost: float | None
    currency: str
    joules: float

    @property
    def tokens_per_second(self) -> float:
        """Of answers."""
        return self.answer_tokens / self.seconds if self.seconds else 0.0

    @property
    def cost_per_million_tokens(self) -> float | None:
        """Of answers; None without prices or answers."""
        if self.cost is None or not self.answer_tokens:
            return None
        return 1e6 * self.cost / self.answer_tokens

    @property
    def joules_per_token(self) -> float:
        """Of an answer."""
        return self.joules / self.answer_tokens if self.answer_tokens else 0.0

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        counts = ("num_requests", "num_finished", "num_good", "num_preempted", "num_devices")
        sums = ("seconds", "prompt_tokens", "answer_tokens", "cost", "currency", "joules")
        return {
            **{name: getattr(self, name) for name in (*counts, *sums)},
            "refused": dict(self.refused),
            "milliseconds": {name: dict(row) for name, row in self.milliseconds.items()},
            "utilisation": dict(self.utilisation),
            "tokens_per_second": self.tokens_per_second,
            "cost_per_million_tokens": self.cost_per_million_tokens,
            "joules_per_token": self.joules_per_token,
        }


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """How busy a device was.

    Attributes:
        name, type: of the device.
        replica: it belongs to.
        busy_seconds: with work.
        spans: share of each span of time, 0 to 1.
    """

    name: str
    type: str
    replica: int
    busy_seconds: float
    spans: tuple[float, ...] = field(default=())


def device_uses(result: SimulationResult, inventory: Inventory) -> list[DeviceUse]:
    """How busy every device of the plan was, in the order of the plan."""
    types = {device.name: device.type.name for device in inventory.devices}
    num_spans = max((len(usage.busy) for usage in result.usage), default=0)
    found: dict[str, tuple[int, NDArray[np.float64]]] = {}
    for usage in result.usage:
        busy = np.zeros(num_spans)
        busy[: len(usage.busy)] = usage.busy
        for name, share in usage.device_shares().items():
            _, before = found.get(name, (usage.replica, np.zeros(num_spans)))
            found[name] = (usage.replica, before + share * busy)
    return [
        DeviceUse(
            name,
            types[name],
            replica,
            float(seconds.sum()),
            tuple(np.minimum(1.0, seconds / result.bin_seconds).tolist()),
        )
        for name, (replica, seconds) in found.items()
    ]


def figures(result: SimulationResult, inventory: Inventory, goal: Goal) -> Figures:
    """Sum up a simulation."""
    whole = result.reason == FINISHED
    arrival, answer = result.trace.arrival[whole], result.trace.answer[whole]
    first, end = result.first_token[whole], result.finished[whole]
    many = answer > 1
    per_token = (end[many] - first[many]) / (answer[many] - 1)
    waits = first - arrival
    good = np.ones(len(arrival), dtype=bool)
    if goal.time_to_first_token is not None:
        good &= waits <= goal.time_to_first_token
    if goal.time_per_output_token is not None:
        good[many] &= per_token <= goal.time_per_output_token
    rows = {"ttft": waits, "tpot": per_token, "e2el": end - arrival}
    seconds = result.seconds
    uses = device_uses(result, inventory)
    joules = _joules(uses, inventory, seconds)
    refused = {
        words: int((result.reason == code).sum())
        for code, words in REASONS.items()
        if (result.reason == code).any()
    }
    return Figures(
        num_requests=len(result.trace),
        num_finished=int(whole.sum()),
        refused=refused,
        seconds=seconds,
        prompt_tokens=int(result.trace.prompt[whole].sum(dtype=np.int64)),
        answer_tokens=int(answer.sum(dtype=np.int64)),
        milliseconds={name: _row(row) for name, row in rows.items() if len(row)},
        num_good=int(good.sum()),
        num_preempted=int(result.preempted.sum(dtype=np.int64)),
        utilisation=_utilisation(uses, seconds),
        num_devices=len(uses),
        cost=_cost(uses, inventory, seconds, joules),
        currency=inventory.currency,
        joules=joules,
    )


def _row(values: NDArray[np.float64]) -> dict[str, float]:
    found = {"mean": float(values.mean())}
    levels = np.percentile(values, PERCENTILES, method="inverted_cdf")
    found |= {f"p{share}": float(level) for share, level in zip(PERCENTILES, levels, strict=True)}
    return {name: round(1e3 * value, 3) for name, value in found.items()}


def _utilisation(uses: list[DeviceUse], seconds: float) -> dict[str, float]:
    busy: dict[str, list[float]] = {}
    for use in uses:
        busy.setdefault(use.type, []).append(use.busy_seconds)
    return {name: sum(row) / (len(row) * seconds) if seconds else 0.0 for name, row in busy.items()}


def _joules(uses: list[DeviceUse], inventory: Inventory, seconds: float) -> float:
    types = {device.type.name: device.type for device in inventory.devices}
    if not all(types[use.type].watts_busy for use in uses):
        return 0.0
    return math.fsum(
        types[use.type].watts_busy * use.busy_seconds
        + types[use.type].watts_idle * max(0.0, seconds - use.busy_seconds)
        for use in uses
    )


def _cost(
    uses: list[DeviceUse], inventory: Inventory, seconds: float, joules: float
) -> float | None:
    if not inventory.price_per_hour:
        return None
    hours = seconds / _HOUR
    rent = math.fsum(inventory.price_per_hour.get(use.type, 0.0) * hours for use in uses)
    return rent + joules / (1e3 * _HOUR) * inventory.price_per_kilowatt_hour

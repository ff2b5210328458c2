"""The planner's own plans of LLaMA-70B on the nodes of Helix, with limits and caches.

`benchmarks.helix` asks for the largest flow, as Helix does. Here `plan_serving` is asked what a
person would ask: so many tokens of prompt and answer, a time per output token. It is told what
`benchmarks.helix_replay` plays: the rates of the instance, the memory and the arithmetic of the
cards, the links. A node is a host with one device.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from banyan.planner.costs import Part, StepShape
from banyan.planner.inventory import DeviceType, Inventory, Link, PlannedDevice
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.plan import Plan, Prediction
from banyan.planner.report import PlanningChoices
from banyan.planner.serving import plan_serving
from banyan.planner.serving.forecast import forecast
from banyan.planner.serving.placed import Task
from banyan.planner.simulation.trace import Trace
from banyan.planner.workload import Goal, Workload
from benchmarks.helix import Instance, Placement
from benchmarks.helix_cards import (
    CACHE_BYTES,
    CARDS,
    COMPUTE_SHARE,
    LAYER_BYTES,
    LINK_BYTES_PER_SECOND,
    LINK_SECONDS,
    MEMORY_SHARE,
    Card,
    rate_of,
)

HIDDEN = 8192


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What a pass takes on a node: the same rule as the replay's.

    Attributes:
        instance: rates of its types of node.
        cards: of these.
    """

    instance: Instance
    cards: Sequence[Card]

    def step_seconds(
        self, model: ModelShape, part: Part, device: DeviceType, step: StepShape
    ) -> float:
        """Reading the layers, or answers at the rate of the instance and prompts by arithmetic."""
        kind, layers = int(device.name), part.end_layer - part.first_layer
        card = self.cards[kind]
        operations = (step.num_tokens - step.num_rows) * layers * LAYER_BYTES
        answers = step.num_rows / rate_of(self.instance, kind, layers)
        computing = answers + operations / (card.operations * COMPUTE_SHARE)
        return max(layers * LAYER_BYTES / card.bandwidth, computing)

    def weight_bytes(self, model: ModelShape, part: Part) -> float:
        """Layers alone."""
        return float((part.end_layer - part.first_layer) * LAYER_BYTES)

    def cache_bytes_per_token(self, model: ModelShape, part: Part) -> float:
        """Keys and values of eight heads."""
        return float((part.end_layer - part.first_layer) * CACHE_BYTES)


def inventory_of(instance: Instance, cards: Sequence[Card]) -> Inventory:
    """A host for each node; a type is named by its number."""
    types = [
        DeviceType(
            name=str(kind),
            vendor="nvidia",
            memory_bytes=int(card.memory),
            read_bytes_per_second=card.bandwidth,
            operations_per_second={"bfloat16": card.operations},
        )
        for kind, card in enumerate(cards)
    ]
    link = Link(LINK_BYTES_PER_SECOND, LINK_SECONDS)
    return Inventory(
        devices=tuple(
            PlannedDevice(f"node {number}", types[kind], f"host {number}")
            for number, kind in enumerate(instance.nodes)
        ),
        within_host=link,
        between_hosts=link,
    )


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan as the replay plays it, and what the planner says of it."""

    placement: Placement
    prediction: Prediction
    seconds: float


def planned(instance: Instance, limit: float | None, trace: Trace, chunk: int) -> Planned:
    """Plan for requests of the trace's mean lengths and a limit for the time per output token.

    Prompts stay with their answers: the replay knows no other way.
    """
    cards = CARDS[len(instance.nodes)]
    layer = LayerShape(
        dense_weights=LAYER_BYTES // 2, attention_width=HIDDEN, cache_width=CACHE_BYTES // 2
    )
    shape = ModelShape(
        name="llama-70b",
        hidden_size=HIDDEN,
        layers=(layer,) * instance.num_layers,
        vocab_size=1,
        tied_embeddings=True,
    )
    workload = Workload(
        prompt_tokens=round(float(trace.prompt.mean())),
        answer_tokens=round(float(trace.answer.mean())),
        goal=Goal(time_per_output_token=limit),
    )
    inventory, costs = inventory_of(instance, cards), NodeCost(instance, cards)
    choices = PlanningChoices(memory_share=MEMORY_SHARE, prefill_chunk=chunk, prefill_apart=False)
    start = time.perf_counter()
    report = plan_serving(shape, inventory, workload, costs, choices=choices)
    seconds = time.perf_counter() - start
    if report.plan is None or report.plan.prediction is None:
        raise SystemExit(report.summary)
    rates = forecast(report.plan, Task(shape, inventory, workload, costs, choices)).rates
    return Planned(placement_of(report.plan, rates), report.plan.prediction, seconds)


def placement_of(plan: Plan, rates: Sequence[float]) -> Placement:
    """Each replica a chain that carries so many tokens per second."""
    ranges: dict[int, tuple[int, int]] = {}
    flow: dict[tuple[str, str], float] = {}
    for replica, rate in zip(plan.replicas, rates, strict=True):
        before = "source"
        for stage in replica.stages:
            node = int(stage.devices[0].removeprefix("node "))
            ranges[node] = (stage.first_layer, stage.num_layers)
            flow[before, str(node)] = rate
            before = str(node)
        flow[before, "sink"] = rate
    return Placement(ranges, flow)

"""Where 80 layers of LLaMA-70B go on the 24 and 42 mixed GPUs of Helix (ASPLOS 2025).

    python -m benchmarks.helix DIRECTORY [--out DIRECTORY]

DIRECTORY holds the instances (README there): the rates that Helix measured for nodes that hold so
many layers, and the caps of the links, taken from its artifact. They are not in this repository.
Both go through the planner's own column generation. Another piece of code, which shares nothing
with the planner, then checks ranges, rates, caps and the conservation of flow. `--out` writes the
placements for `benchmarks.helix_replay`.

Two bounds: one for everything that Helix allows (flows that split and join), one for pipelines that
share nothing.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from banyan.planner.serving.cases import Mode, Problem
from banyan.planner.serving.pipelines import Chosen, choose_pipelines, work_bound

BARS = {24: (2045.6, 0.0005), 42: (5441.0, 0.20)}
SECONDS = 2.0

Flow = dict[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Instance:
    """A graph of nodes.

    Attributes:
        num_layers: of the model.
        rates: type -> tokens per second of a node with 1, 2, ... layers.
        nodes: type of each node.
        caps: (from, to) -> tokens per second; nodes by their number, "source" and "sink".
        published: tokens per second of the best placement that Helix found.
    """

    num_layers: int
    rates: tuple[tuple[float, ...], ...]
    nodes: tuple[int, ...]
    caps: Mapping[tuple[str, str], float]
    published: float


@dataclass(frozen=True, slots=True)
class Placement:
    """ranges: node -> (first layer, layers held); flow: (from, to) -> tokens per second."""

    ranges: Mapping[int, tuple[int, int]]
    flow: Flow


def read_instance(path: Path) -> Instance:
    """Read one file."""
    data = json.loads(path.read_text())
    return Instance(
        num_layers=data["layers"],
        rates=tuple(tuple(t["tokens_per_second_by_layers_held"]) for t in data["node_types"]),
        nodes=tuple(data["nodes"]),
        caps={(source, target): cap for source, target, cap in data["edges"]},
        published=data["published_incumbent_tokens_per_second"],
    )


def problem_of(instance: Instance) -> Problem:
    """The instance in the planner's words: a kind of group is one node of a type."""
    num_types = len(instance.rates)
    rates_KL = np.zeros((num_types, instance.num_layers))
    for kind, rates in enumerate(instance.rates):
        rates_KL[kind, : len(rates)] = rates
    return Problem(
        num_layers=instance.num_layers,
        uses=np.eye(num_types, dtype=np.int64),
        limits=np.bincount(instance.nodes, minlength=num_types),
        modes=(Mode((), (rates_KL,), most_groups=len(instance.nodes)),),
    )


def place(instance: Instance, chosen: Chosen) -> Placement:
    """Give each group of the pipelines a node, and each pipeline its flow."""
    free = {kind: [i for i, t in enumerate(instance.nodes) if t == kind] for kind in range(99)}
    ranges: dict[int, tuple[int, int]] = {}
    flow: Flow = {}
    for column, count in chosen.columns:
        for _ in range(count):
            first, before = 0, "source"
            for kind, layers, groups in column.passes[0]:
                for _ in range(groups):
                    held = min(layers, instance.num_layers - first)
                    if not held:
                        break
                    node = free[kind].pop(0)
                    ranges[node] = (first, held)
                    flow[before, str(node)] = column.rate
                    first, before = first + held, str(node)
            flow[before, "sink"] = column.rate
    return Placement(ranges, flow)


def faults_of(instance: Instance, placement: Placement, tolerance: float = 1e-9) -> list[str]:
    """Everything that Helix's model forbids in a placement; nothing where it is valid."""
    faults = [
        f"node {node} holds layers {first} to {first + held}"
        for node, (first, held) in placement.ranges.items()
        if first < 0 or held < 1 or first + held > instance.num_layers
    ]
    entering: defaultdict[str, float] = defaultdict(float)
    leaving: defaultdict[str, float] = defaultdict(float)
    for (source, target), amount in placement.flow.items():
        entering[target] += amount
        leaving[source] += amount
        if amount < 0:
            faults.append(f"{source} -> {target} carries {amount}")
        cap = instance.caps.get((source, target))
        if cap is None:
            faults.append(f"{source} -> {target} is no link")
        elif amount > cap * (1 + tolerance):
            faults.append(f"{source} -> {target} carries {amount} of {cap}")
        faults += _order_faults(instance, placement, source, target)
    for node, kind in enumerate(instance.nodes):
        name = str(node)
        if abs(entering[name] - leaving[name]) > tolerance * max(1.0, entering[name]):
            faults.append(f"node {node}: {entering[name]} enters, {leaving[name]} leaves")
        if not entering[name]:
            continue
        held = placement.ranges.get(node, (0, 0))[1]
        rates = instance.rates[kind]
        rate = rates[held - 1] if 1 <= held <= len(rates) else 0.0
        if entering[name] > rate * (1 + tolerance):
            faults.append(f"node {node} computes {entering[name]} of {rate} with {held} layers")
    return faults


def _order_faults(instance: Instance, placement: Placement, source: str, target: str) -> list[str]:
    """A node takes over at a layer that it holds, and brings tokens forward."""
    if source == "source":
        start = 0
    elif source.isdigit() and int(source) in placement.ranges:
        start = sum(placement.ranges[int(source)])
    else:
        return [f"{source} sends and holds nothing"]
    if target == "sink":
        return [] if start == instance.num_layers else [f"{source} ends at {start} of all layers"]
    if not target.isdigit() or int(target) not in placement.ranges:
        return [f"{target} receives and holds nothing"]
    first, held = placement.ranges[int(target)]
    if source == "source" and first != 0:
        return [f"{target} begins at layer {first} and receives from the source"]
    if not first <= start < first + held:
        return [f"{source} ends at {start}, {target} holds {first} to {first + held}"]
    return []


def objective(placement: Placement) -> float:
    """Tokens per second that leave the source."""
    return sum(amount for (source, _), amount in placement.flow.items() if source == "source")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(
        "| nodes | Helix, tokens/s | ours | ratio | bound of flows | gap | bound of pipelines "
        "| gap | seconds | check |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    missed = []
    for path in sorted(options.directory.glob("*.json")):
        instance = read_instance(path)
        start = time.perf_counter()
        problem = problem_of(instance)
        chosen = choose_pipelines(problem)
        placement = place(instance, chosen)
        faults = faults_of(instance, placement)
        seconds = time.perf_counter() - start
        reached, bound = objective(placement), work_bound(problem)
        own_bound = chosen.upper_bound or bound
        gap, own_gap = max(0.0, bound / reached - 1), own_bound / reached - 1
        print(
            f"| {len(instance.nodes)} | {instance.published:.1f} | {reached:.1f} "
            f"| {reached / instance.published:.3f} | {bound:.1f} | {gap:.2%} "
            f"| {own_bound:.1f} | {own_gap:.2%} | {seconds:.2f} "
            f"| {'; '.join(faults) or 'valid'} |"
        )
        bar, most = BARS.get(len(instance.nodes), (0.0, float("inf")))
        if reached < bar or gap > most or seconds > SECONDS or faults:
            missed.append(path.name)
        if options.out:
            write_placement(options.out / path.name, placement)
    print("missed: " + ", ".join(missed) if missed else "every bar holds")


def write_placement(path: Path, placement: Placement) -> None:
    """As JSON: ranges {node: [first layer, layers]}, flow [[from, to, tokens per second]]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flow = [[source, target, amount] for (source, target), amount in placement.flow.items()]
    path.write_text(json.dumps({"ranges": placement.ranges, "flow": flow}, indent=1))


if __name__ == "__main__":
    main()

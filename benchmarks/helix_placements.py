"""Placements on the instances of Helix: ours as `benchmarks.helix` writes them, and its own."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from banyan.planner.linear_program import maximise
from benchmarks.helix import Instance, Placement


def read_placement(path: Path) -> Placement:
    """What `benchmarks.helix --out` wrote."""
    data = json.loads(path.read_text())
    ranges = {int(node): (first, held) for node, (first, held) in data["ranges"].items()}
    return Placement(ranges, {(source, target): rate for source, target, rate in data["flow"]})


def published_placement(path: Path, instance: Instance) -> Placement:
    """Read where Helix puts layers, and find the largest flow through that."""
    text = path.read_text()
    starts = {int(n): int(first) for n, first in re.findall(r"^start_(\d+) (\d+)", text, re.M)}
    held = {int(n): int(k) for n, k in re.findall(r"^hold_(\d+)_(\d+) 1\b", text, re.M)}
    ranges = {node: (first, held[node]) for node, first in starts.items() if node in held}
    return Placement(ranges, largest_flow(instance, ranges))


def largest_flow(
    instance: Instance, ranges: Mapping[int, tuple[int, int]]
) -> dict[tuple[str, str], float]:
    """The most tokens that fit through a placement; a node may compute the end of its range."""
    ends = {str(node): first + count for node, (first, count) in ranges.items()}
    edges = [
        (source, target)
        for source, target in instance.caps
        if _follows(source, target, ranges, ends, instance.num_layers)
    ]
    names = list(ends)
    conserved = np.zeros((len(edges), len(names)))
    limited = np.zeros((len(edges), len(names)))
    for number, (source, target) in enumerate(edges):
        if source in ends:
            conserved[number, names.index(source)] -= 1
        if target in ends:
            conserved[number, names.index(target)] += 1
            limited[number, names.index(target)] = 1
    rates = [instance.rates[instance.nodes[int(n)]][ranges[int(n)][1] - 1] for n in names]
    caps = [instance.caps[edge] for edge in edges]
    # What enters a node leaves it: no less, and no more.
    found = maximise(
        np.array([float(source == "source") for source, _ in edges]),
        np.hstack([conserved, -conserved, limited, np.eye(len(edges))]),
        np.array([0.0] * (2 * len(names)) + rates + caps),
    )
    assert found is not None  # nothing at all is a flow
    return {
        edge: float(amount)
        for edge, amount in zip(edges, found.amounts, strict=True)
        if amount > 1e-6
    }


def _follows(
    source: str,
    target: str,
    ranges: Mapping[int, tuple[int, int]],
    ends: Mapping[str, int],
    num_layers: int,
) -> bool:
    if source != "source" and source not in ends:
        return False
    at = 0 if source == "source" else ends[source]
    if target == "sink":
        return at == num_layers
    if target not in ends:
        return False
    first, count = ranges[int(target)]
    return at == first if source == "source" else first <= at < first + count

"""The cheapest set of edges that parts a network in two. Pure.

Shortest augmenting paths (Edmonds and Karp, 1972): the networks here have a few dozen vertices,
those of a graph between two layers.
"""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import TypeVar

Vertex = TypeVar("Vertex", bound=Hashable)

UNCUTTABLE = 1 << 100
"""Capacity of an edge that no cut may contain; more than all others together."""


def minimum_cut(
    capacities: Mapping[tuple[Vertex, Vertex], int], source: Vertex, sink: Vertex
) -> frozenset[Vertex]:
    """The vertices on the side of `source` in a cut of least capacity, as few as possible."""
    left: dict[Vertex, dict[Vertex, int]] = {source: {}, sink: {}}
    for (start, end), capacity in capacities.items():
        left.setdefault(start, {})[end] = left.get(start, {}).get(end, 0) + capacity
        left.setdefault(end, {}).setdefault(start, 0)
    while True:
        came_from = _reached(left, source)
        if sink not in came_from:
            return frozenset(came_from)
        path = [sink]
        while path[-1] != source:
            path.append(came_from[path[-1]])
        steps = list(zip(path[1:], path[:-1], strict=True))
        flow = min(left[start][end] for start, end in steps)
        for start, end in steps:
            left[start][end] -= flow
            left[end][start] += flow


def _reached(left: Mapping[Vertex, Mapping[Vertex, int]], source: Vertex) -> dict[Vertex, Vertex]:
    """Vertices to which more can flow -> the one before, on a path with the fewest edges."""
    came_from = {source: source}
    queue = deque([source])
    while queue:
        vertex = queue.popleft()
        for other, capacity in left[vertex].items():
            if capacity > 0 and other not in came_from:
                came_from[other] = vertex
                queue.append(other)
    return came_from

"""Step graphs of tiny models, one step's arrays, and a whole graph run segment by segment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from banyan.compiler.cutting.segments import Segment
from banyan.compiler.ir.graph import Graph
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.models.loading import open_model
from banyan.models.step_graph import decoder_step_graph
from tests.models.test_step_graph import empty_states, names_of, step_arguments, weights_of

__all__ = ["assert_same_bits", "names_of", "run_segments", "run_whole", "step_of"]

Arrays = Mapping[str, Any]


def step_of(directory: Path, cache: Path) -> tuple[Graph, Arrays]:
    """The step graph of a checkpoint in float32, and arrays for all its inputs."""
    model = open_model(str(directory))
    graph = decoder_step_graph(
        model.decoder_configuration(), dtype="float32", cache_directory=cache
    )
    return graph, {**weights_of(graph, model), **empty_states(graph), **step_arguments()}


def run_whole(graph: Graph, arrays: Arrays) -> Arrays:
    """All outputs of a graph, states too."""
    return run_graph(graph, arrays)


def run_segments(segments: Sequence[Segment], arrays: Arrays) -> Arrays:
    """All outputs of the graph that was cut; each place sees only what was given to it."""
    at_place: dict[str, dict[str, Any]] = {segment.place: {} for segment in segments}
    found: dict[str, Any] = {}
    for segment in segments:
        received = {name: at_place[place][name] for name, place in segment.received.items()}
        names = {str(node.attr("name")) for node in segment.graph.inputs} - received.keys()
        results = run_graph(segment.graph, {**received, **{name: arrays[name] for name in names}})
        at_place[segment.place] |= results
        found |= results
    return found


def assert_same_bits(found: Arrays, wanted: Arrays) -> None:
    """Every output of the whole graph is there, to the bit."""
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)

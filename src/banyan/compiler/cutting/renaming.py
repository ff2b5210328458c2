"""Segments without the names of their layers, so that equal layers are one program. Pure.

A model cut between attention and the rest has two segments for each layer; with inputs called
"input.0" and so on those of most layers are the same text, which is compiled once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from banyan.compiler.executable import Array, WeightSource
from banyan.compiler.ir.graph import Builder, Graph, Node, Output, rebuild


@dataclass(frozen=True, slots=True)
class PlainGraph:
    """A graph with plain names.

    Attributes:
        graph: to compile.
        inputs: name in the segment -> plain name.
        outputs: the same for what it gives.
    """

    graph: Graph
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


class PlainWeights:
    """The weights of a segment under their plain names."""

    def __init__(self, source: WeightSource, inputs: Mapping[str, str]) -> None:
        """Take the names of a `PlainGraph`."""
        self._source = source
        self._original = {plain: name for name, plain in inputs.items()}

    def names(self) -> Collection[str]:
        """See `WeightSource`."""
        known = set(self._source.names())
        return {plain for plain, name in self._original.items() if name in known}

    def read(self, name: str) -> Array:
        """See `WeightSource`."""
        return self._source.read(self._original[name])

    def release(self, name: str) -> None:
        """See `WeightSource`."""
        self._source.release(self._original[name])


def plainly_named(graph: Graph) -> PlainGraph:
    """Name inputs and outputs by their numbers."""
    inputs = {str(node.attr("name")): f"input.{i}" for i, node in enumerate(graph.inputs)}
    outputs = {output.name: f"output.{i}" for i, output in enumerate(graph.outputs)}
    builder = Builder()
    copies: dict[Node, Node] = {}
    for node in graph.nodes():
        if node.op == "input":
            name = inputs[str(node.attr("name"))]
            copies[node] = builder.input(name, node.tensor, str(node.attr("role")))
        else:
            copies[node] = rebuild(builder, node, tuple(copies[arg] for arg in node.args))
    plain = Graph(
        "segment",
        tuple(copies[node] for node in graph.inputs),
        tuple(
            Output(
                outputs[output.name],
                copies[output.node],
                None if output.updates is None else inputs[output.updates],
            )
            for output in graph.outputs
        ),
    )
    return PlainGraph(plain, inputs, outputs)

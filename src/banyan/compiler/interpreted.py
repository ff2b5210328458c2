"""A graph that the interpreter runs: slow, exact, and without a C++ compiler."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from banyan.compiler.executable import Argument, Array, Executable, evaluate_shape
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.report import CompileReport
from banyan.compiler.targets.interpreter import run_graph


@final
class InterpretedGraph(Executable):
    """Runs a captured graph node by node in NumPy."""

    def __init__(self, graph: Graph, report: CompileReport) -> None:
        super().__init__(graph_arguments(graph), graph_outputs(graph), report)
        self._graph = graph
        self._kept: dict[str, Array] = {}

    def _load(self, place: int, array: Array) -> None:
        argument = self.inputs[place]
        self._kept[argument.name] = np.array(array, argument.type.dtype.numpy, order="C")

    def _allocate(self, place: int) -> None:
        name, kind = self.inputs[place].name, self.inputs[place].type
        self._kept[name] = np.zeros(evaluate_shape(kind, self._sizes), kind.dtype.numpy)

    def _write(self, place: int, value: Array) -> None:
        self._kept[self.inputs[place].name] = value.copy()

    def _write_part(self, place: int, index: int, value: Array) -> None:
        self._kept[self.inputs[place].name][index] = value

    def _read_part(self, place: int, index: int, part: Argument) -> Array:
        found: Array = self._kept[self.inputs[place].name][index].copy()
        return found

    def _run(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        def call_extern(node: Node, values: tuple[Array, ...]) -> Any:
            return run_extern_node(node, values, sizes)

        found = run_graph(self._graph, {**self._kept, **arguments}, call_extern=call_extern)
        for output in self._graph.outputs:
            if output.updates is not None:
                self._kept[output.updates] = found[output.name].copy()
        return {output.name: found[output.name] for output in self.outputs}


def run_extern_node(node: Node, values: tuple[Array, ...], sizes: Mapping[str, int]) -> Any:
    """Call the framework for one extern node; imports torch."""
    from banyan.compiler.capture.extern import run_extern  # noqa: PLC0415

    static = node.attr("static")
    results = run_extern(
        str(node.attr("target")), static if isinstance(static, tuple) else (), values, sizes
    )
    return results[0] if len(results) == 1 else results


def graph_arguments(graph: Graph) -> tuple[Argument, ...]:
    """The inputs of a captured graph."""
    return tuple(
        Argument(str(node.attr("name")), node.tensor, str(node.attr("role")))
        for node in graph.inputs
    )


def graph_outputs(graph: Graph) -> tuple[Argument, ...]:
    """The outputs a caller sees: not those that only replace a state."""
    return tuple(
        Argument(output.name, output.node.tensor, "output")
        for output in graph.outputs
        if output.updates is None
    )

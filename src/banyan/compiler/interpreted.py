"""A graph that the interpreter runs: slow, exact, and without a C++ compiler."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from banyan.compiler.executable import (
    Argument,
    Array,
    Progress,
    WeightSource,
    bind_arguments,
    bind_states,
    check_arguments,
    check_state,
    of_role,
    plain_weight,
    read_weight,
)
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.symbols import evaluate
from banyan.compiler.report import CompileReport
from banyan.compiler.targets.interpreter import run_graph
from banyan.foundation.errors import InputError


@final
class InterpretedGraph:
    """Runs a captured graph node by node in NumPy."""

    def __init__(self, graph: Graph, report: CompileReport) -> None:
        self._graph = graph
        self._report = report
        self._inputs = graph_arguments(graph)
        self._kept: dict[str, Array] = {}
        self._sizes: dict[str, int] = {}

    @property
    def inputs(self) -> tuple[Argument, ...]:
        """Arguments, weights and states."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Argument, ...]:
        """What `run` returns."""
        return graph_outputs(self._graph)

    @property
    def report(self) -> CompileReport:
        """What compiling did."""
        return self._report

    def load_weights(self, source: WeightSource, progress: Progress | None = None) -> None:
        """Copy every weight, in the element type of the graph."""
        weights = of_role(self._inputs, "weight")
        for done, argument in enumerate(weights, start=1):
            array = read_weight(source, argument)
            self._kept[argument.name] = plain_weight(array, argument.type.dtype.numpy).copy()
            source.release(argument.name)
            if progress is not None:
                progress(done, len(weights))

    def allocate_state(self, symbol_values: Mapping[str, int]) -> None:
        """Zeroed arrays for the states."""
        states = of_role(self._inputs, "state")
        self._sizes = bind_states(states, symbol_values)
        for state in states:
            shape = tuple(evaluate(dim, self._sizes) for dim in state.type.shape)
            self._kept[state.name] = np.zeros(shape, state.type.dtype.numpy)

    def write_state(self, name: str, value: Array) -> None:
        """Replace what a state holds."""
        states = {state.name: state.type for state in of_role(self._inputs, "state")}
        kept = states.get(name) if name in self._kept else None
        check_state(kept, self._sizes, name, value)
        self._kept[name] = value.copy()

    def run(self, arguments: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; states are replaced by their updates."""
        wanted = of_role(self._inputs, "argument")
        check_arguments(wanted, arguments)
        sizes = bind_arguments(wanted, arguments, self._sizes)
        for argument in self._inputs:
            if argument.role != "argument" and argument.name not in self._kept:
                raise InputError(f"the {argument.role} {argument.name!r} is not there yet; load it")

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

"""Capture a function of tensors and compare the interpreted graph with PyTorch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from banyan.compiler.capture.arrays import to_array
from banyan.compiler.capture.export import capture_module
from banyan.compiler.capture.extern import run_extern
from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.verify import operations_used, verify
from banyan.compiler.targets.interpreter.run import run_graph

Function = Callable[..., Any]


class WrappedOne(torch.nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


class Wrapped(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: torch.Tensor) -> Any:
        return self.function(*arguments)


def captured(function: Function, *arguments: Any, dynamic_shapes: Any = None) -> Graph:
    """The verified graph of a module, or of a function of tensors."""
    module = function
    if not isinstance(function, torch.nn.Module):
        module = Wrapped(function) if len(arguments) > 1 else WrappedOne(function)
    assert isinstance(module, torch.nn.Module)
    return verify(capture_module(module, arguments, name="captured", dynamic_shapes=dynamic_shapes))


def call_extern(node: Node, arrays: tuple[Any, ...]) -> Any:
    static = node.attr("static")
    assert isinstance(static, tuple)
    results = run_extern(str(node.attr("target")), static, arrays, {})
    return results[0] if len(results) == 1 else results


def interpreted(graph: Graph, *arguments: torch.Tensor) -> list[Any]:
    names = [str(n.attr("name")) for n in graph.inputs if n.attr("role") == "argument"]
    arrays = dict(zip(names, map(to_array, arguments), strict=True))
    return list(run_graph(graph, arrays, call_extern=call_extern).values())


def assert_agrees(
    function: Function,
    *arguments: torch.Tensor,
    externs: Sequence[str] = (),
    tolerance: float | None = None,
) -> None:
    """The interpreted capture gives what PyTorch gives, in shape, type and value."""
    graph = captured(function, *arguments)
    targets = [str(n.attr("target")) for n in graph.nodes() if n.op == "extern"]
    assert targets == list(externs), targets
    wanted = function(*arguments)
    wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
    found = interpreted(graph, *arguments)
    assert len(found) == len(wanted)
    for number, (left, right) in enumerate(zip(found, wanted, strict=True)):
        expected = to_array(right)
        assert left.dtype == expected.dtype, number
        assert left.shape == expected.shape, number
        usual = 2e-2 if right.dtype is torch.bfloat16 else 1e-5
        allowed = usual if tolerance is None else tolerance
        np.testing.assert_allclose(
            np.asarray(left, np.float64),
            np.asarray(expected, np.float64),
            rtol=allowed,
            atol=allowed,
            err_msg=f"result {number}",
        )


def operations(graph: Graph) -> set[str]:
    return set(operations_used(graph))

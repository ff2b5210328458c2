"""Run a graph, of any stage, node by node.

Kernels run program by program, loop by loop, exactly as written: slow, and therefore easy to
trust. Called by tests, by parity checks, and on machines without a C++ compiler.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from banyan.compiler.ir.binding import bind_symbols
from banyan.compiler.ir.graph import Graph, Kernel, Node, Region
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.placement import place
from banyan.compiler.ir.symbols import Expression, evaluate
from banyan.compiler.ir.types import TensorType, TupleType
from banyan.compiler.targets.interpreter import packed_quantized, quantized, sequences
from banyan.compiler.targets.interpreter.access import load, store
from banyan.compiler.targets.interpreter.arithmetic import (
    ARITHMETIC,
    Array,
    Operation,
    pointwise,
)
from banyan.foundation.errors import GraphError

Value: TypeAlias = "Array | tuple[Array, ...]"
ExternCall: TypeAlias = Callable[[Node, tuple[Array, ...]], Value]

_TABLE: dict[str, Operation] = {
    **ARITHMETIC,
    "scatter": sequences.scatter,
    "unpack": quantized.unpack,
    "quantized_linear": quantized.quantized_linear,
    "quantize_rows": packed_quantized.quantize_rows,
    "quantized_dot": packed_quantized.quantized_dot,
    "attention_forward": sequences.attention_forward,
    "attention_backward": sequences.attention_backward,
    "cache_write": sequences.cache_write,
    "cache_write_quantized": sequences.cache_write_quantized,
    "paged_attention": sequences.paged_attention,
    "paged_latent_attention": sequences.paged_latent_attention,
    "group_rows": sequences.group_rows,
}


def run_graph(
    graph: Graph, arrays: Mapping[str, Array], *, call_extern: ExternCall | None = None
) -> dict[str, Array]:
    """The outputs of `graph` for inputs `arrays` (name -> array; weights as their types say).

    Inputs are not changed: an output that updates a state is a new array.

    Raises:
        InputError: a shape does not fit.
        GraphError: an `extern` node is met and no `call_extern` was given.
    """
    types = {str(node.attr("name")): node.tensor for node in graph.inputs}
    symbols = bind_symbols(types, {name: arrays[name].shape for name in types})
    frame = _Frame(symbols=symbols, call_extern=call_extern)
    for node in graph.inputs:
        name = str(node.attr("name"))
        frame.values[node] = np.asarray(arrays[name], node.dtype.numpy)
    for node in graph.nodes():
        if node not in frame.values:
            frame.values[node] = frame.compute(node)
    return {output.name: frame.array(output.node) for output in graph.outputs}


@dataclass(slots=True)
class _Frame:
    symbols: dict[str, int]
    call_extern: ExternCall | None = None
    values: dict[Node, Value] = field(default_factory=dict)

    def array(self, node: Node) -> Array:
        value = self.values[node]
        if isinstance(value, tuple):
            raise GraphError(f"{node.op} has several results; read one with get")
        return value

    def number(self, value: object) -> Any:
        """An attribute with symbolic sizes replaced by numbers."""
        if isinstance(value, Expression):
            return evaluate(value, self.symbols)
        if isinstance(value, tuple):
            return tuple(self.number(item) for item in value)
        return value

    def compute(self, node: Node) -> Value:
        with np.errstate(all="ignore"):
            return self._rounded(node, self._raw(node))

    def _rounded(self, node: Node, value: Any) -> Value:
        if isinstance(node.type, TupleType):
            kinds = node.type.elements
            return tuple(np.asarray(v, t.dtype.numpy) for v, t in zip(value, kinds, strict=True))
        return np.asarray(value).astype(node.tensor.dtype.numpy, copy=False)

    def _raw(self, node: Node) -> Any:
        attrs = {key: self.number(value) for key, value in node.attrs}
        if node.op in {"load", "store", "loop", "bind", "call", "get", "extern"}:
            return self._structural(node, attrs)
        values = tuple(self.array(arg) for arg in node.args)
        if node.op in POINTWISE:
            return pointwise(node.op, values, attrs)
        if node.op in _TABLE:
            return _TABLE[node.op](values, attrs)
        return self._leaf(node, attrs)

    def _leaf(self, node: Node, attrs: Mapping[str, Any]) -> Array:
        if node.op == "constant":
            return np.asarray(attrs["value"])
        if node.op == "data":
            return np.asarray(attrs["values"]).reshape(attrs["shape"])
        if node.op == "iota":
            return np.arange(attrs["size"])
        if node.op == "size":
            return np.asarray(attrs["dim"])
        raise GraphError(f"the interpreter does not know {node.op!r}")

    def _structural(self, node: Node, attrs: Mapping[str, Any]) -> Any:
        if node.op == "get":
            whole = self.values[node.args[0]]
            return whole[attrs["index"]]
        if node.op == "call":
            return self._call(node, attrs["kernel"])
        if node.op == "loop":
            raise GraphError("a loop stands outside every kernel")
        values = tuple(self.array(arg) for arg in node.args)
        if node.op == "extern":
            if self.call_extern is None:
                raise GraphError(f"extern {attrs['target']} needs the framework to run")
            return self.call_extern(node, values)
        if node.op == "bind":
            self.symbols[attrs["name"]] = int(values[0])
            return ()
        if node.op == "load":
            return load(values[0], values[1:], attrs["index"], attrs["sizes"])
        store(values[0], values[1], values[2:], attrs["index"], attrs["sizes"])
        return ()

    def _call(self, node: Node, kernel: Kernel) -> tuple[Array, ...]:
        memory: dict[Node, Value] = {}
        given = iter(node.args)
        for pointer in kernel.pointers:
            if pointer.attr("access") == "write":
                memory[pointer] = _fresh(pointer.tensor, self.symbols)
            else:
                array = self.array(next(given))
                memory[pointer] = array.copy() if pointer.attr("access") == "update" else array
        order = place(kernel.body)
        for point in product(*(range(self.number(size)) for size in kernel.grid)):
            frame = _Frame(symbols=dict(self.symbols), values=dict(memory))
            for parameter, index in zip(kernel.body.parameters, point, strict=True):
                frame.values[parameter] = np.asarray(index)
            frame.run_region(kernel.body, order)
        written = (p for p in kernel.pointers if p.attr("access") != "read")
        return tuple(np.asarray(memory[p]) for p in written)

    def run_region(self, region: Region, order: Mapping[Region, tuple[Node, ...]]) -> None:
        for node in order[region]:
            if node.op == "loop":
                self.values[node] = self._loop(node, order)
            else:
                self.values[node] = self.compute(node)

    def _loop(self, node: Node, order: Mapping[Region, tuple[Node, ...]]) -> tuple[Array, ...]:
        body, step = node.attr("body"), node.attr("step")
        if not isinstance(body, Region) or not isinstance(step, int):
            raise GraphError("loop needs a body and a step")
        start, stop = int(self.array(node.args[0])), int(self.array(node.args[1]))
        carried = tuple(self.array(arg) for arg in node.args[2:])
        for index in range(start, stop, step):
            self.values[body.parameters[0]] = np.asarray(index)
            self.values.update(zip(body.parameters[1:], carried, strict=True))
            self.run_region(body, order)
            carried = tuple(self.array(result) for result in body.results)
        return carried


def _fresh(tensor: TensorType, symbols: Mapping[str, int]) -> Array:
    shape = tuple(evaluate(dim, symbols) for dim in tensor.shape)
    # A value no kernel would compute: what was never written shows in a comparison.
    if tensor.dtype.is_floating:
        return np.full(shape, np.nan).astype(tensor.dtype.numpy)
    return np.full(shape, 99, tensor.dtype.numpy)

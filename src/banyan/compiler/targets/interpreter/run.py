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
from banyan.compiler.targets.interpreter.arithmetic import ARITHMETIC, Array, Operation, pointwise
from banyan.foundation.errors import GraphError

Value: TypeAlias = "Array | tuple[Array, ...]"
ExternCall: TypeAlias = Callable[[Node, tuple[Array, ...]], Value]

_TABLE: dict[str, Operation] = {
    **ARITHMETIC,
    "constant": lambda _, attrs: np.asarray(attrs["value"]),
    "data": lambda _, attrs: np.asarray(attrs["values"]).reshape(attrs["shape"]),
    "iota": lambda _, attrs: np.arange(attrs["size"]),
    "size": lambda _, attrs: np.asarray(attrs["dim"]),
    "load": lambda values, attrs: load(values[0], values[1:], attrs["index"], attrs["sizes"]),
    "store": lambda values, attrs: store(
        values[0], values[1], values[2:], attrs["index"], attrs["sizes"]
    ),
    "scatter": sequences.scatter,
    "windows": sequences.windows,
    "window_panels": sequences.window_panels,
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
    "low_rank": sequences.low_rank,
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
    order: Mapping[Region, tuple[Node, ...]] = field(default_factory=dict)

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
        if node.op == "get":
            whole = self.values[node.args[0]]
            return whole[attrs["index"]]
        values = tuple(self.array(arg) for arg in node.args)
        if node.op in POINTWISE:
            return pointwise(node.op, values, attrs)
        if node.op in _TABLE:
            return _TABLE[node.op](values, attrs)
        if node.op == "call":
            return self._call(attrs["kernel"], values)
        if node.op == "loop":
            steps = range(int(values[0]), int(values[1]), attrs["step"])
            return self._loop(attrs["body"], steps, values[2:])
        if node.op == "bind":
            self.symbols[attrs["name"]] = int(values[0])
            return ()
        if node.op != "extern":
            raise GraphError(f"the interpreter does not know {node.op!r}")
        if self.call_extern is None:
            raise GraphError(f"extern {attrs['target']} needs the framework to run")
        return self.call_extern(node, values)

    def _call(self, kernel: Kernel, values: tuple[Array, ...]) -> tuple[Array, ...]:
        memory: dict[Node, Value] = {}
        given = iter(values)
        for pointer in kernel.pointers:
            if pointer.attr("access") == "write":
                memory[pointer] = _fresh(pointer.tensor, self.symbols)
            else:
                array = next(given)
                memory[pointer] = array.copy() if pointer.attr("access") == "update" else array
        order = place(kernel.body)
        for point in product(*(range(self.number(size)) for size in kernel.grid)):
            frame = _Frame(symbols=dict(self.symbols), values=dict(memory), order=order)
            frame.values.update(zip(kernel.body.parameters, map(np.asarray, point), strict=True))
            frame.run_region(kernel.body)
        written = (p for p in kernel.pointers if p.attr("access") != "read")
        return tuple(np.asarray(memory[p]) for p in written)

    def run_region(self, region: Region) -> None:
        if region not in self.order:
            raise GraphError("a loop stands outside every kernel")
        for node in self.order[region]:
            self.values[node] = self.compute(node)

    def _loop(self, body: Region, steps: range, carried: tuple[Array, ...]) -> tuple[Array, ...]:
        for index in steps:
            self.values[body.parameters[0]] = np.asarray(index)
            self.values.update(zip(body.parameters[1:], carried, strict=True))
            self.run_region(body)
            carried = tuple(self.array(result) for result in body.results)
        return carried


def _fresh(tensor: TensorType, symbols: Mapping[str, int]) -> Array:
    shape = tuple(evaluate(dim, symbols) for dim in tensor.shape)
    # A value no kernel would compute: what was never written shows in a comparison.
    if tensor.dtype.is_floating:
        return np.full(shape, np.nan).astype(tensor.dtype.numpy)
    return np.full(shape, 99, tensor.dtype.numpy)

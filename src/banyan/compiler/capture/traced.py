"""A graph that AOTAutograd traced (forward, backward or inference) becomes a `Graph`.

Tensors that do not lie in row-major order are taken as their memory lies, so that no transposed
weight is copied before a run; results are given back in the order PyTorch expects.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from banyan.compiler.capture.calls import CallWriter, source_line
from banyan.compiler.capture.emitter import LARGEST_CONSTANT, Emitter, from_torch_dtype
from banyan.compiler.capture.sizes import LARGEST_SIZE, SizeTable
from banyan.compiler.ir.graph import Graph, Node, Output
from banyan.compiler.ir.symbols import Dim, Expression, symbol, symbols_in
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import GraphError

SMALLEST_BOUND = 256
"""Least size up to which a program serves lengths it has not seen."""
HIDDEN = "size of "
"""Start of the names of inputs that only carry the value of a symbol."""


@dataclass(frozen=True, slots=True)
class TensorInput:
    """An input of the graph: which argument it is, and the order of dims its memory has."""

    name: str
    place: int
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SizeInput:
    """Where the value of a symbol is found: an argument that is a number, or its dim `axis`."""

    symbol: str
    place: int
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Computed:
    """A result of the graph, by name; `order` leads from its memory back to its dims."""

    name: str
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Passed:
    """A result that is one of the arguments."""

    place: int


@dataclass(frozen=True, slots=True)
class Known:
    """A result that is a number computed from sizes, or nothing."""

    value: Dim | float | None


Result = Computed | Passed | Known


@dataclass(frozen=True, slots=True)
class Traced:
    """What was captured.

    Attributes:
        graph: of ours; inputs that never change have role "weight".
        tensors: its inputs, in order.
        sizes: where the value of each symbol is found.
        constants: tensors the graph brought along, by input name.
        results: in the order of the FX graph.
    """

    graph: Graph
    tensors: tuple[TensorInput, ...]
    sizes: tuple[SizeInput, ...]
    constants: Mapping[str, torch.Tensor]
    results: tuple[Result, ...]


def capture_traced(
    module: torch.fx.GraphModule, name: str, static: Collection[int], seen: Mapping[str, int]
) -> Traced:
    """Translate every node of a traced graph.

    Args:
        module: of ATen calls; `meta["val"]` of each node holds its fake value.
        static: places of the arguments that keep their contents between calls.
        seen: sizes that a program must be able to serve, by symbol; grows by doubling.

    Raises:
        GraphError: a node that cannot be said, with its name and the user's line.
    """
    return _Capture(module, frozenset(static), seen).run(name)


@dataclass(slots=True)
class _Capture:
    module: torch.fx.GraphModule
    static: frozenset[int]
    seen: Mapping[str, int]
    symbols: dict[sympy.Symbol, Expression] = field(default_factory=dict)
    tensors: list[TensorInput] = field(default_factory=list)
    sizes: list[SizeInput] = field(default_factory=list)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    inputs: list[Node] = field(default_factory=list)
    places: dict[Any, int] = field(default_factory=dict)

    def run(self, name: str) -> Traced:
        nodes = list(self.module.graph.nodes)
        placeholders = [node for node in nodes if node.op == "placeholder"]
        for node in placeholders:
            self._read_symbols(node.meta.get("val"))
        writer = CallWriter(Emitter(SizeTable(self.symbols)))
        results: tuple[Result, ...] = ()
        outputs: list[Output] = []
        for node in nodes:
            try:
                if node.op == "placeholder":
                    self._input(writer, node, len(self.places))
                elif node.op == "get_attr":
                    writer.values[node] = self._constant(writer, node)
                elif node.op == "call_function":
                    writer.write(node)
                elif node.op == "output":
                    results = tuple(self._result(writer, x, outputs) for x in node.args[0])
            except GraphError as error:
                # A call has already said where it comes from.
                where = "" if node.op == "call_function" else source_line(node)
                raise GraphError(f"node {node.name!r}{where}: {error}") from error
        self._hidden_sizes(writer)
        graph = Graph(name, tuple(self.inputs), tuple(outputs))
        return Traced(graph, tuple(self.tensors), tuple(self.sizes), self.constants, results)

    def _read_symbols(self, fake: Any) -> None:
        sizes = fake.shape if isinstance(fake, torch.Tensor) else [fake]
        for size in sizes:
            if not isinstance(size, torch.SymInt):
                continue
            for atom in sorted(size.node.expr.free_symbols, key=str):
                if atom not in self.symbols:
                    self.symbols[atom] = self._bounded(atom, size.node.shape_env)

    def _bounded(self, atom: sympy.Symbol, environment: Any) -> Expression:
        bounds = environment.var_to_range.get(atom)
        low = int(bounds.lower) if bounds is not None and bounds.lower.is_Integer else 0
        high = int(bounds.upper) if bounds is not None and bounds.upper.is_Integer else LARGEST_SIZE
        most = max(SMALLEST_BOUND, 1 << (2 * self.seen.get(str(atom), 1) - 1).bit_length())
        return symbol(str(atom), max(0, low), min(high, most))

    def _input(self, writer: CallWriter, node: Any, place: int) -> None:
        self.places[node] = place
        fake = node.meta.get("val")
        if isinstance(fake, torch.Tensor):
            for axis, size in enumerate(fake.shape):
                self._found(size, SizeInput(str(size), place, axis))
            writer.values[node] = self._tensor(writer, node.name, fake, place)
        else:
            self._found(fake, SizeInput(str(fake), place))
            writer.values[node] = writer.number(fake)

    def _found(self, size: Any, where: SizeInput) -> None:
        is_symbol = isinstance(size, torch.SymInt) and size.node.expr in self.symbols
        if is_symbol and all(entry.symbol != where.symbol for entry in self.sizes):
            self.sizes.append(where)

    def _tensor(self, writer: CallWriter, name: str, fake: torch.Tensor, place: int) -> Node:
        order = memory_order(fake)
        shape = writer.emit.sizes.shape([fake.shape[i] for i in order])
        fixed = place in self.static and all(isinstance(d, int) for d in shape)
        kind = TensorType(shape, from_torch_dtype(fake.dtype))
        node = writer.emit.builder.input(name, kind, "weight" if fixed else "argument")
        self.inputs.append(node)
        self.tensors.append(TensorInput(name, place, order))
        return node.permute(inverse(order))

    def _hidden_sizes(self, writer: CallWriter) -> None:
        """A symbol that is in no tensor's shape gets an input of that size, which nobody reads."""
        shown = {s for node in self.inputs for s in node.tensor.symbols()}
        for expression in self.symbols.values():
            if not shown.issuperset(symbols_in(expression)):
                kind = TensorType((expression,), DType.BOOL)
                self.inputs.append(writer.emit.builder.input(f"{HIDDEN}{expression}", kind))

    def _constant(self, writer: CallWriter, node: Any) -> Node:
        tensor = getattr(self.module, node.target)
        if not isinstance(tensor, torch.Tensor):
            raise GraphError(f"{node.target} is {type(tensor).__name__}, not a tensor")
        dtype = from_torch_dtype(tensor.dtype)
        if tensor.numel() <= LARGEST_CONSTANT:
            return writer.emit.data(tensor)
        with unset_fake_temporarily():
            self.constants[node.name] = tensor.detach().contiguous()
        kind = TensorType(tuple(tensor.shape), dtype)
        self.inputs.append(writer.emit.builder.input(node.name, kind))
        return self.inputs[-1]

    def _result(self, writer: CallWriter, wanted: Any, outputs: list[Output]) -> Result:
        if not isinstance(wanted, torch.fx.Node):
            return Known(wanted)
        if wanted in self.places:
            return Passed(self.places[wanted])
        value = writer.values[wanted]
        if not isinstance(value, Node):
            return Known(value)
        name = f"result.{len(outputs)}"
        order = memory_order(wanted.meta["val"])
        outputs.append(Output(name, value.permute(order)))
        return Computed(name, inverse(order))


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The order that undoes an order of dims."""
    return tuple(sorted(range(len(order)), key=lambda i: order[i]))


def memory_order(fake: torch.Tensor) -> tuple[int, ...]:
    """The dims from the slowest to the fastest in memory, where the memory has no gaps.

    Anything else (expanded, sliced) counts as row-major, and is copied before a run.
    """
    plain = tuple(range(fake.ndim))
    if fake.layout is not torch.strided:
        raise GraphError(f"a tensor of layout {fake.layout} is not supported; make it dense")
    strides = [_hint(stride) for stride in fake.stride()]
    sizes = [_hint(size) for size in fake.shape]
    order = sorted(plain, key=lambda i: (-strides[i], sizes[i] == 1, i))
    step = 1
    for axis in reversed(order):
        if sizes[axis] != 1 and strides[axis] != step:
            return plain
        step *= sizes[axis]
    # Dims of one element have any stride; keep row-major order where that is what it is.
    long = [axis for axis in order if sizes[axis] != 1]
    return plain if long == sorted(long) else tuple(order)


def _hint(size: Any) -> int:
    if isinstance(size, torch.SymInt):
        hint = size.node.hint
        return 2 if hint is None else int(hint)
    return int(size)

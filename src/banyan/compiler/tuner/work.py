"""How much a kernel has to do: its arithmetic, and the bytes it cannot avoid to move.

Pure. Counts the nodes of a kernel's body at some points of its grid, with the sizes of a run, and
scales up. Loop bounds and bound sizes are evaluated where they follow from sizes and from small
integer arrays (block tables, lengths) of the run; what is unknown counts once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.graph import Kernel, Node, Region
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.placement import place
from banyan.compiler.ir.symbols import evaluate, upper_bound
from banyan.compiler.ir.types import TensorType, TupleType
from banyan.compiler.targets.interpreter.arithmetic import pointwise

SAMPLED_PROGRAMS = 32
PRODUCTS = frozenset({"dot", "packed_dot", "grouped_dot", "quantized_linear", "quantized_dot"})
_COSTLY = {"exp": 8, "log": 8, "tanh": 12, "erf": 12, "sin": 12, "cos": 12, "sigmoid": 10}
"""Elementary functions in units of one addition, as polynomials of vector code."""


@dataclass(frozen=True, slots=True)
class Work:
    """Attributes:
    products: (element type, multiplications and additions) of matrix products.
    elements: additions and the like, one per element; costlier functions count for several.
    bytes_moved: for each pointer of the kernel, bytes that have to pass, each counted once.
    """

    products: tuple[tuple[str, float], ...]
    elements: float
    bytes_moved: tuple[float, ...]

    @property
    def operations(self) -> float:
        """All multiplications and additions of products."""
        return sum(count for _, count in self.products)

    @property
    def num_bytes(self) -> float:
        """All bytes moved."""
        return sum(self.bytes_moved)


def kernel_work(
    kernel: Kernel,
    sizes: Mapping[str, int],
    arrays: Sequence[NDArray[np.generic] | None] = (),
) -> Work:
    """The work of one launch.

    Args:
        kernel: the kernel.
        sizes: the value of every symbol of its pointers.
        arrays: for each pointer its content, where known: integers that steer loops.
    """
    shape = [max(0, evaluate(size, sizes)) for size in kernel.grid]
    num_programs = prod(shape)
    known = dict(zip(kernel.pointers, arrays, strict=False))
    order = place(kernel.body)
    total = _Count()
    chosen = _spread(num_programs)
    for number in chosen:
        point = np.unravel_index(number, shape) if shape else ()
        program = _Program(dict(sizes), known, order, total)
        for parameter, index in zip(kernel.body.parameters, point, strict=True):
            program.values[parameter] = np.asarray(int(index))
        program.region(kernel.body, 1.0)
    scale = num_programs / len(chosen) if chosen else 0.0
    return Work(
        tuple(sorted((kind, count * scale) for kind, count in total.products.items())),
        total.elements * scale,
        tuple(
            min(total.touched.get(pointer, 0.0) * scale, _bytes(pointer.tensor, sizes))
            for pointer in kernel.pointers
        ),
    )


def _spread(num_programs: int) -> list[int]:
    """Numbers of programs all over the grid."""
    if num_programs <= SAMPLED_PROGRAMS:
        return list(range(num_programs))
    step = num_programs / SAMPLED_PROGRAMS
    return sorted({int(i * step + step / 2) for i in range(SAMPLED_PROGRAMS)})


@dataclass(slots=True)
class _Count:
    products: dict[str, float] = field(default_factory=dict)
    elements: float = 0.0
    touched: dict[Node, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Program:
    """One program of the grid, walked without computing tiles."""

    sizes: dict[str, int]
    arrays: Mapping[Node, NDArray[np.generic] | None]
    order: Mapping[Region, tuple[Node, ...]]
    count: _Count
    values: dict[Node, NDArray[np.generic]] = field(default_factory=dict)
    carried: dict[Node, list[NDArray[np.generic] | None]] = field(default_factory=dict)

    def region(self, region: Region, times: float) -> None:
        for node in self.order[region]:
            if node.op == "loop":
                self._loop(node, times)
            else:
                self._node(node, times)

    def _node(self, node: Node, times: float) -> None:
        if node.op == "bind":
            bound = self.values.get(node.args[0])
            name, most = str(node.attr("name")), node.attr("maximum")
            self.sizes[name] = int(bound) if bound is not None else int(str(most))
        elif node.op in {"load", "store"}:
            value = node if node.op == "load" else node.args[1]
            tile = _bytes(value.tensor, self.sizes) * times
            pointer = node.args[0]
            self.count.touched[pointer] = self.count.touched.get(pointer, 0.0) + tile
        elif node.op in PRODUCTS:
            kind = node.args[1].dtype.value
            rows = _elements(node.tensor, self.sizes)
            told = node.attr("depth") if node.op == "quantized_dot" else node.args[0].shape[-1]
            depth = evaluate(told, self.sizes)  # type: ignore[arg-type]
            done = 2.0 * rows * depth * times
            self.count.products[kind] = self.count.products.get(kind, 0.0) + done
        elif not isinstance(node.type, TupleType):
            self.count.elements += self._elements_of(node) * times
        self._evaluate(node)

    def _elements_of(self, node: Node) -> float:
        if node.op in POINTWISE:
            return _COSTLY.get(node.op, 1) * _elements(node.tensor, self.sizes)
        if node.op in {"reduce", "cumsum", "quantize_rows"}:
            return float(_elements(node.args[0].tensor, self.sizes))
        return 0.0

    def _loop(self, node: Node, times: float) -> None:
        body, step = node.attr("body"), node.attr("step")
        assert isinstance(body, Region)
        assert isinstance(step, int)
        start, stop = (self.values.get(arg) for arg in node.args[:2])
        if start is None or stop is None:
            self.region(body, times)
            return
        steps = range(int(start), int(stop), step)
        is_scalar = all(not arg.shape for arg in node.args[2:]) and len(node.args) > 2
        if is_scalar:
            self._scalar_loop(node, body, steps)
        elif steps:
            middle = steps[len(steps) // 2]
            self.values[body.parameters[0]] = np.asarray(middle)
            self.region(body, times * len(steps))

    def _scalar_loop(self, node: Node, body: Region, steps: range) -> None:
        """Search loops carry numbers only: followed step by step, they cost next to nothing."""
        carried = [self.values.get(arg) for arg in node.args[2:]]
        for index in steps:
            self.values[body.parameters[0]] = np.asarray(index)
            for parameter, value in zip(body.parameters[1:], carried, strict=True):
                self._keep(parameter, value)
            for inner in self.order[body]:
                self._evaluate(inner)
            carried = [self.values.get(result) for result in body.results]
        self.carried[node] = carried

    def _keep(self, node: Node, value: NDArray[np.generic] | None) -> None:
        if value is None:
            self.values.pop(node, None)
        else:
            self.values[node] = value

    def _evaluate(self, node: Node) -> None:
        """Compute a scalar whose arguments are known; anything else stays unknown."""
        if isinstance(node.type, TupleType) or node.shape:
            return
        if node.op == "constant":
            self.values[node] = np.asarray(node.attr("value"))
        elif node.op == "size":
            dim = node.attr("dim")
            self.values[node] = np.asarray(evaluate(dim, self.sizes))  # type: ignore[arg-type]
        elif node.op == "load":
            self._keep(node, self._element(node))
        elif node.op == "get" and node.args[0] in self.carried:
            self._keep(node, self.carried[node.args[0]][int(str(node.attr("index")))])
        elif node.op in POINTWISE:
            found = [self.values.get(arg) for arg in node.args]
            given = tuple(value for value in found if value is not None)
            known = len(given) == len(found)
            self._keep(node, pointwise(node.op, given, dict(node.attrs)) if known else None)

    def _element(self, node: Node) -> NDArray[np.generic] | None:
        array = self.arrays.get(node.args[0])
        where = [self.values.get(arg) for arg in node.args[1:]]
        if array is None or any(index is None for index in where):
            return None
        place_ = tuple(int(index) for index in where if index is not None)
        inside = all(0 <= i < n for i, n in zip(place_, array.shape, strict=True))
        return np.asarray(array[place_]) if inside else np.asarray(0)


def _elements(kind: TensorType, sizes: Mapping[str, int]) -> int:
    count = 1
    for dim in kind.shape:
        try:
            count *= max(0, evaluate(dim, sizes))
        except KeyError:  # a symbol bound by something unknown
            count *= upper_bound(dim)
    return count


def _bytes(kind: TensorType, sizes: Mapping[str, int]) -> float:
    return float(_elements(kind, sizes) * kind.dtype.num_bytes)

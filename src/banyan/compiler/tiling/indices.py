"""Arithmetic on the integer tiles that say where a tile lies, folded while it is written."""

from collections.abc import Sequence
from dataclasses import dataclass

from banyan.compiler.ir.graph import Builder, Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType, Space


def known(index: Node) -> int | None:
    """The number behind an index, if it is a constant."""
    value = index.attr("value") if index.op == "constant" else None
    return value if isinstance(value, int) else None


@dataclass(frozen=True, slots=True)
class Indices:
    """Writes int64 scalars and int64 tiles [n]; a scalar meets a tile by growing."""

    builder: Builder

    def number(self, value: Dim) -> Node:
        """A scalar with the value of a size."""
        if isinstance(value, int):
            return self.builder.number(value, DType.INT64, space=Space.TILE)
        return self.builder.size(value, Space.TILE)

    def count(self, size: Dim) -> Node:
        """The tile 0, 1, ..., size - 1."""
        return self.builder.add("iota", size=size, dtype=DType.INT64, space="tile")

    def add(self, a: Node, b: Node) -> Node:
        """a + b."""
        left, right = known(a), known(b)
        if left is not None and right is not None:
            return self.number(left + right)
        if left == 0:
            return b
        return a if right == 0 else a + b

    def subtract(self, a: Node, b: Node) -> Node:
        """a - b."""
        left, right = known(a), known(b)
        if left is not None and right is not None:
            return self.number(left - right)
        return a if right == 0 else a - b

    def multiply(self, a: Node, size: Dim) -> Node:
        """a times a size."""
        left = known(a)
        if left is not None and (left == 0 or isinstance(size, int)):
            return self.number(left * size)
        return a if size == 1 else a * size

    def divide(self, a: Node, size: Dim) -> Node:
        """a // size; undoes `multiply` by a multiple of the size."""
        left = known(a)
        if left is not None and isinstance(size, int):
            return self.number(left // size)
        if size == 1 or left == 0:
            return a
        if a.op == "mul" and isinstance(size, int):
            factor = known(a.args[1])
            if factor is not None and factor % size == 0:
                return self.multiply(a.args[0], factor // size)
        return a // size

    def remainder(self, a: Node, size: Dim) -> Node:
        """a mod size."""
        left = known(a)
        if size == 1:
            return self.number(0)
        if left is not None and isinstance(size, int):
            return self.number(left % size)
        return a % size

    def smaller(self, a: Node, b: Node) -> Node:
        """min(a, b)."""
        return a.binary("min", b)

    def flatten(self, parts: Sequence[tuple[Node, Dim]]) -> Node:
        """The row-major number of a position given as (index, size) pairs."""
        total = self.number(0)
        for index, size in parts:
            total = self.add(self.multiply(total, size), index)
        return total

    def unflatten(self, flat: Node, sizes: tuple[Dim, ...]) -> list[Node]:
        """The position that has row-major number `flat`."""
        found: list[Node] = []
        for axis in range(len(sizes) - 1, -1, -1):
            found.append(flat if axis == 0 else self.remainder(flat, sizes[axis]))
            flat = self.divide(flat, sizes[axis])
        return found[::-1]

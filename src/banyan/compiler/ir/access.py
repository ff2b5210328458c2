"""The parts of a `load` or a `store`: which elements of a pointer a tile shows."""

from dataclasses import dataclass

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, Expression
from banyan.foundation.errors import GraphError


@dataclass(frozen=True, slots=True)
class Access:
    """A pointer, and for each of its dims a kind ("at", "range", "gather"), an index and a size."""

    pointer: Node
    kinds: tuple[str, ...]
    indices: tuple[Node, ...]
    sizes: tuple[Dim, ...]

    @property
    def dims(self) -> list[tuple[str, Node, Dim, Dim]]:
        """For each dim of the pointer its kind, its index, how many are taken, and of how many."""
        return list(zip(self.kinds, self.indices, self.sizes, self.pointer.shape, strict=True))

    @property
    def gathered(self) -> tuple[Node, ...]:
        """The tiles of element numbers; their dims come first in the tile."""
        return tuple(index for kind, index, *_ in self.dims if kind == "gather")

    @property
    def gather_rank(self) -> int:
        """How many leading dims of the tile come from gathered indices."""
        return len(self.gathered[0].shape) if self.gathered else 0

    @property
    def ranges(self) -> tuple[int, ...]:
        """The dims of the pointer that stay dims of the tile."""
        return tuple(i for i, kind in enumerate(self.kinds) if kind == "range")


def access_of(node: Node) -> Access:
    """Read the attributes of a load or store.

    Raises:
        GraphError: they are none.
    """
    kinds, sizes = node.attr("index"), node.attr("sizes")
    if not isinstance(kinds, tuple) or not isinstance(sizes, tuple):
        raise GraphError(f"{node.op} needs tuples of kinds and sizes")
    dims = tuple(s if isinstance(s, int | Expression) else 1 for s in sizes)
    indices = node.args[1 if node.op == "load" else 2 :]
    return Access(node.args[0], tuple(map(str, kinds)), indices, dims)

"""Writes the body of one kernel: asked for a tile of a node, it writes how to compute it.

`tile(node, window)` follows the node's operation: pointwise operations ask for the same window of
their arguments, shape operations move the window, reductions ask for whole axes, and nodes that
lie in memory become loads. Asking twice gives the same tile.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.tiling.options import TileOptions
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import (
    CannotPull,
    Entry,
    Span,
    Window,
    as_lanes,
    labels,
    tile_shape,
)

TileRule: TypeAlias = "Callable[[Writer, Node, Window], Node]"


@dataclass(slots=True)
class Writer(Tiles):
    """The state of one kernel while it is written.

    Attributes:
        leaves: nodes in memory -> this kernel's pointer to them, in order of first use.
        is_memory: does this node lie in memory?
        rules: how each operation that is not pointwise is computed on a tile.
        options: how large the pieces are.
    """

    is_memory: Callable[[Node], bool]
    rules: Mapping[str, TileRule]
    options: TileOptions = field(default_factory=TileOptions)
    leaves: dict[Node, Node] = field(default_factory=dict)
    tiles: dict[tuple[Node, Window], Node] = field(default_factory=dict)

    def tile(self, node: Node, window: Window) -> Node:
        """The part of `node` in `window`.

        Raises:
            CannotPull: some node behind it must lie in memory instead.
            MustCut: the asked span of the kernel's own axis crosses borders of a concatenation.
        """
        key = (node, window)
        found = self.tiles.get(key)
        if found is None:
            found = self._compute(node, window)
            if found.shape != tile_shape(window):
                raise AssertionError(f"{node.op}: {found.type} for {tile_shape(window)}")
            self.tiles[key] = found
        return found

    def _compute(self, node: Node, window: Window) -> Node:
        if self.is_memory(node):
            return self.load(node, window)
        if node.op in POINTWISE:
            return self.builder.add(
                node.op, [self.tile(arg, window) for arg in node.args], **dict(node.attrs)
            )
        rule = self.rules.get(node.op)
        if rule is None:
            raise CannotPull(node)
        return rule(self, node, window)

    def by_lanes(self, node: Node, window: Window) -> Node:
        """The tile computed element by element; for windows of one span and no lists."""
        if sum(isinstance(entry, Span) and entry.size != 1 for entry in window) > 1:
            # Better copied once by a kernel that walks along rows.
            raise CannotPull(node)
        lanes = as_lanes(self.indices, window, node)
        if lanes == window:
            raise CannotPull(node)
        return self.reshaped(self.tile(node, lanes), tile_shape(window))

    def positions(self, entry: Entry) -> Node:
        """The index, or the tile of indices, that an entry stands for."""
        if not isinstance(entry, Span):
            return entry.index
        return self.indices.add(self.indices.count(entry.size), entry.start)

    def pointer(self, node: Node) -> Node:
        """This kernel's pointer to a node in memory."""
        found = self.leaves.get(node)
        if found is None:
            found = self.builder.pointer(f"in{len(self.leaves)}", node.tensor, "read")
            self.leaves[node] = found
        return found

    def load(self, node: Node, window: Window) -> Node:
        """Read the window of a node that lies in memory."""
        return self.read(self.pointer(node), window)

    def aligned(self, tile: Node, have: Window, want: Window, names: dict[int, int]) -> Node:
        """A tile of window `have` moved and grown to the tile of window `want`.

        Args:
            names: dim of `have` -> dim of `want` that it stands for.
        """
        own = [label if isinstance(label, str) else names[label] for label in labels(have)]
        asked = labels(want)
        order = sorted(range(len(own)), key=lambda i: asked.index(own[i]))
        tile = tile.permute(order)
        kept = {own[i]: tile.shape[position] for position, i in enumerate(order)}
        with_ones = tuple(kept.get(label, 1) for label in asked)
        return (tile.reshape(with_ones) if kept else tile).expand(tile_shape(want))

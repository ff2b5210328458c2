"""The numbers of a schedule: how large the pieces are that one program works on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinearShape:
    """What decides the best block of a product with packed weights.

    Attributes:
        depth: K, the contracted size.
        columns: N.
        weight: element type or format of the weight: "bf16", "f32", "int8", ...
    """

    depth: int
    columns: int
    weight: str


@dataclass(frozen=True, slots=True)
class LinearBlock:
    """Attributes:
    rows: rows of one program.
    panels: panels of 16 columns of one program.
    """

    rows: int
    panels: int


@dataclass(frozen=True, slots=True)
class TileOptions:
    """Attributes:
    row_block: rows of one program of a product with packed weights.
    panel_group: panels of 16 columns of one such program.
    product_rows: rows of one program of a product of two computed values.
    product_columns: its columns.
    widest_row: elements up to which a row without reductions stays in one piece.
    row_piece: elements of one piece of a longer row.
    packing: weights change to the panels that micro-kernels read.
    quantized: weight formats of `quantized_linear` that the target has kernels for.
    tuned: shapes of products with packed weights that have a block of their own.
    depth_piece: products sum over this many elements at a time; None takes them all at once.
    longest_tile: elements up to which a row that is reduced stays in one tile; None has no limit.
    longest_scores: inner length up to which two chained products share a kernel.
    attention_blocks: blocks of 16 keys that attention takes at a time; a divisor of 64.
    tile_elements: short rows share a program up to so many elements; None gives each its own.
    """

    row_block: int = 64
    panel_group: int = 4
    product_rows: int = 32
    product_columns: int = 64
    widest_row: int = 8192
    row_piece: int = 2048
    packing: bool = True
    depth_piece: int | None = None
    longest_tile: int | None = None
    longest_scores: int = 2048
    attention_blocks: int = 8
    tile_elements: int | None = None
    quantized: frozenset[str] = frozenset()
    tuned: tuple[tuple[LinearShape, LinearBlock], ...] = ()

    def linear_block(self, shape: LinearShape) -> LinearBlock:
        """The block of a product with packed weights: the tuned one, or the general one."""
        found = dict(self.tuned).get(shape)
        return found or LinearBlock(self.row_block, self.panel_group)

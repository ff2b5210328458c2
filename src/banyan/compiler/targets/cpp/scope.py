"""What the printed text already holds: pointers, scalars and buffers, by node."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.bounds import Facts
from banyan.compiler.targets.cpp.dialect import CPP, Dialect
from banyan.compiler.targets.cpp.expressions import dim_text
from banyan.compiler.targets.cpp.indices import UNBOUNDED, Index, Variable, constant_index

ALIGNMENT_BYTES = 64
_CACHE_SET_STRIDE = 1024


@dataclass(frozen=True, slots=True)
class Scalar:
    """A local variable of the computed type."""

    text: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tile in the thread's scratch memory; strides in elements."""

    text: str
    dtype: DType
    strides: tuple[int, ...]


Held: TypeAlias = Scalar | Buffer


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks that a product reads where they lie.

    Attributes:
    tile: the gather.
    is_columns: whether the blocks lie side by side.
    numbers: which blocks: the gathered indices, or those of the next step of a loop.
    """

    tile: Node
    is_columns: bool
    numbers: Node

    @property
    def count(self) -> int:
        """How many blocks."""
        size = self.tile.shape[0]
        return size if isinstance(size, int) else 0


@dataclass(slots=True)
class Scratch:
    """Hands out offsets in the scratch memory of one kernel; regions give back what they took."""

    next_byte: int = 0
    most_bytes: int = 0

    def take(self, num_bytes: int) -> int:
        """The offset of `num_bytes` bytes, aligned."""
        offset = self.next_byte
        self.next_byte += -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self.most_bytes = max(self.most_bytes, self.next_byte)
        return offset


@dataclass(slots=True)
class Scope:
    """The names in reach at one place of a kernel's text.

    Attributes:
        symbols: names of sizes.
        pointers: names of the kernel's pointers.
        facts: what is known about sizes and indices.
        scratch: memory of the thread.
        values: what was printed, and where it is held.
        lines: the text so far.
        count: how many names were given.
        dialect: how the language says what names cannot.
        blocks: arrays of addresses, by the load and the numbers of its blocks.
        ahead: for a dot, the blocks that the next dot will read.
    """

    symbols: dict[str, str]
    pointers: Mapping[Node, str]
    facts: Facts
    scratch: Scratch
    dialect: Dialect = CPP
    values: dict[Node, Held] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    count: list[int] = field(default_factory=lambda: [0])
    blocks: dict[tuple[Node, Node], str] = field(default_factory=dict)
    ahead: dict[Node, Blocks] = field(default_factory=dict)

    def inner(self) -> "Scope":
        """A scope inside this one: it sees everything here, and keeps its own to itself."""
        return Scope(
            dict(self.symbols),
            self.pointers,
            self.facts,
            self.scratch,
            self.dialect,
            dict(self.values),
            count=self.count,
            blocks=dict(self.blocks),
            ahead=self.ahead,
        )

    def name(self, prefix: str) -> str:
        """A name not yet used in this kernel."""
        self.count[0] += 1
        return f"{prefix}{self.count[0] - 1}"

    def emit(self, text: str) -> None:
        """Add a line."""
        self.lines.append(text)

    def dim(self, dim: Dim) -> str:
        """The text of a size."""
        return dim_text(dim, self.symbols.__getitem__)

    def dim_index(self, dim: Dim) -> Index:
        """A size as an index."""
        if isinstance(dim, int):
            return constant_index(dim)
        return Index(((Variable(self.dim(dim), 0, 0, min(upper_bound(dim), UNBOUNDED)), 1),))

    def allocate(self, shape: tuple[Dim, ...], dtype: DType) -> Buffer:
        """Declare a buffer for the largest tile of `shape`."""
        sizes = tuple(max(upper_bound(d), 1) for d in shape)
        strides = row_strides(sizes, dtype)
        num_bytes = (strides[0] * sizes[0] if sizes else 1) * dtype.num_bytes
        offset = self.scratch.take(num_bytes)
        name = self.name("t")
        self.emit(self.dialect.scratch(name, dtype, offset))
        return Buffer(name, dtype, strides)


def row_strides(sizes: tuple[int, ...], dtype: DType) -> tuple[int, ...]:
    """Row-major strides; rows that would fall into few cache sets are kept one line apart."""
    strides = [1] * len(sizes)
    for i in reversed(range(len(sizes) - 1)):
        strides[i] = strides[i + 1] * sizes[i + 1]
        is_row = i == len(sizes) - 2
        if is_row and strides[i] * dtype.num_bytes % _CACHE_SET_STRIDE == 0 and sizes[i] > 1:
            strides[i] += ALIGNMENT_BYTES // dtype.num_bytes
    return tuple(strides)

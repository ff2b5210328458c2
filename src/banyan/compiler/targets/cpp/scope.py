"""What the printed text already holds: pointers, scalars and buffers, by node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import mul
from typing import TypeAlias

from banyan.compiler.ir.attributes import number as number_of
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, strides, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.bounds import Facts
from banyan.compiler.targets.cpp.dialect import CPP, Dialect
from banyan.compiler.targets.cpp.expressions import dim_text, literal
from banyan.compiler.targets.cpp.indices import UNBOUNDED, Index, Limit, Variable, variable_index
from banyan.foundation.errors import CompilationFailed

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

    def offset(self, indices: tuple[Index, ...]) -> Index:
        """The number of an element."""
        return sum(map(mul, indices, self.strides), Index())

    def at(self, indices: tuple[Index, ...]) -> str:
        """The text of an element."""
        return f"{self.text}[{self.offset(indices)}]"


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
        return replace(
            self,
            symbols=dict(self.symbols),
            values=dict(self.values),
            blocks=dict(self.blocks),
            lines=[],
        )

    def name(self, prefix: str) -> str:
        """A name not yet used in this kernel."""
        self.count[0] += 1
        return f"{prefix}{self.count[0] - 1}"

    def emit(self, text: str) -> None:
        """Add a line."""
        self.lines.append(text)

    def keep(self, prefix: str, kind: str, text: str) -> Scalar:
        """Declare a variable that starts as `text`."""
        name = self.name(prefix)
        self.emit(f"{kind} {name} = {text};")
        return Scalar(name)

    def dim(self, dim: Dim) -> str:
        """The text of a size."""
        return dim_text(dim, self.symbols.__getitem__)

    def dim_index(self, dim: Dim) -> Index:
        """A size as an index."""
        if isinstance(dim, int):
            return Index(offset=dim)
        return variable_index(self.dim(dim), 0, 0, min(upper_bound(dim), UNBOUNDED))

    def scalar(self, node: Node) -> str:
        """The text of a scalar node."""
        if node.op == "constant":
            return literal(number_of(node, "value"), node.dtype)
        held = self.values.get(node)
        if not isinstance(held, Scalar):
            raise CompilationFailed(f"the scalar {node.op} is used before it is printed")
        return held.text

    def index(self, node: Node) -> Index:
        """A scalar node as an index."""
        exact = self.facts.exactly(node)
        return Index(offset=exact) if isinstance(exact, int) else variable_index(self.scalar(node))

    def times(self, index: Index, stride: Dim) -> Index:
        """An index times a stride that may be symbolic."""
        if isinstance(stride, int):
            return index * stride
        if not index.terms and index.offset == 0:
            return index
        return variable_index(f"({index}) * {self.dim(stride)}", index.level)

    def number(self, shape: tuple[Dim, ...], indices: Sequence[Index]) -> Index:
        """The number of an element in row-major order."""
        pairs = zip(indices, strides(shape), strict=True)
        return sum((self.times(index, stride) for index, stride in pairs), Index())

    def checked(self, start: Node, step: Index, size: Dim) -> str | None:
        """The condition that `start + step` lies in a dim of `size`; None where that is proved."""
        limit = Limit(self.scalar(start), size)
        proved = self.facts.is_inside(start, step, size, within=limit)
        return self.condition(self.index(start) + step, size, *proved)

    def condition(
        self, index: Index, size: Dim, low: bool = False, high: bool = False
    ) -> str | None:
        """The condition that an index lies in a dim; `low` and `high` say what is proved."""
        if low and high:
            return None
        if low:
            return f"{index} < {self.dim(size)}"
        if high:
            return f"{index} >= 0"
        return f"uint64_t({index}) < uint64_t({self.dim(size)})"

    def clipped(self, start: Node, size: Dim, dim: Dim) -> tuple[str, bool]:
        """How many of `size` elements from `start` lie in a dim, and whether that may be fewer."""
        step = Index(((Variable("", 0, 0, upper_bound(size) - 1, None, size), 1),))
        if self.facts.is_inside(start, step, dim)[1]:
            return self.dim(size), False
        text = self.scalar(start)
        rest = self.dim(dim) if text == "int64_t(0)" else f"{self.dim(dim)} - {text}"
        return f"minimum(index_t({self.dim(size)}), index_t({rest}))", True

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

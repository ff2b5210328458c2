"""Nodes, graphs and kernels: immutable, hash-consed, one class of node for every stage.

Stage 1 is a `Graph` over whole tensors. Stage 2 replaces groups of nodes by `call` nodes that
carry a `Kernel`, whose body uses the same operations on tiles. `Builder` is the only maker of
nodes: it looks types up in `operations` and returns the same object for the same node, so within
one builder equality is identity.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import ref

from banyan.compiler.ir.operations import infer_type
from banyan.compiler.ir.symbols import Dim, Expression, Symbol, common_shape
from banyan.compiler.ir.types import DType, Space, TensorType, TupleType, ValueType
from banyan.foundation.errors import GraphError

Attribute: TypeAlias = (
    "int | float | str | bool | None | Dim | DType | TensorType | Region | Kernel"
    " | tuple[Attribute, ...]"
)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation. Compared by identity; made by `Builder` only.

    Operators and methods write further nodes with the same builder. Both sides of an operator have
    one element type; a number or a size takes it, and shapes grow as in NumPy.
    """

    op: str
    args: tuple["Node", ...]
    attrs: tuple[tuple[str, "Attribute"], ...]
    type: ValueType
    maker: "ref[Builder]" = field(repr=False)  # weak: graphs are freed without the collector

    @property
    def builder(self) -> "Builder":
        """What made the node and makes others from it, while the graph is being written."""
        found = self.maker()
        if found is None:
            raise GraphError(f"{self.op} belongs to a graph that is written to its end")
        return found

    def attr(self, name: str) -> "Attribute":
        """The attribute `name`.

        Raises:
            KeyError: the node has no such attribute.
        """
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(f"{self.op} has no attribute {name!r}")

    @property
    def tensor(self) -> TensorType:
        """The type, for a node with a single result."""
        if isinstance(self.type, TupleType):
            raise GraphError(f"{self.op} has {len(self.type.elements)} results; read one with get")
        return self.type

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The shape, for a node with a single result."""
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        """The element type, for a node with a single result."""
        return self.tensor.dtype

    def apply(self, op: str, *others: "Node", **attrs: "Attribute") -> "Node":
        """`op` of this node and others."""
        return self.builder.add(op, (self, *others), **attrs)

    def cast(self, dtype: DType) -> "Node":
        """The same values in another element type."""
        return self if self.dtype is dtype else self.apply("cast", dtype=dtype)

    def reshape(self, shape: Iterable[Dim]) -> "Node":
        """The same elements in another shape."""
        wanted = tuple(shape)
        return self if self.shape == wanted else self.apply("reshape", shape=wanted)

    def expand(self, shape: Iterable[Dim]) -> "Node":
        """Grown to `shape`."""
        wanted = tuple(shape)
        return self if self.shape == wanted else self.apply("expand", shape=wanted)

    def permute(self, order: Iterable[int]) -> "Node":
        """The dims in another order."""
        wanted = tuple(order)
        return self if wanted == tuple(sorted(wanted)) else self.apply("permute", order=wanted)

    def slice(self, axis: int, start: Dim, stop: Dim, step: int = 1) -> "Node":
        """Part of one axis."""
        whole = (start, stop, step) == (0, self.shape[axis], 1)
        attrs = {"axis": axis, "start": start, "stop": stop, "step": step}
        return self if whole else self.apply("slice", **attrs)

    def first_places(self, shape: Iterable[Dim]) -> "Node":
        """The first places of each axis, as many as `shape` says."""
        found = self
        for axis, stop in enumerate(shape):
            found = found.slice(axis, 0, stop)
        return found

    def reduce(self, kind: str, axes: Iterable[int], *, keep: bool = False) -> "Node":
        """A reduction; with `keep` the reduced dims stay with size 1."""
        chosen = tuple(axes)
        found = self.apply("reduce", axes=chosen, kind=kind)
        kept = (1 if i in chosen else d for i, d in enumerate(self.shape))
        return found.reshape(kept) if keep else found

    def filled(self, value: float | Dim) -> "Node":
        """A number or size everywhere in a tensor like this one."""
        if not isinstance(value, Expression):
            return self.builder.number(value, self.dtype, self.shape, self.tensor.space)
        size = self.builder.size(value, self.tensor.space)
        return size.cast(self.dtype).expand(self.shape)

    def choose(self, this: "Operand", other: "Operand") -> "Node":
        """`this` where the flag holds, `other` where not; at least one is a node."""
        like = this if isinstance(this, Node) else other
        if not isinstance(like, Node):
            raise TypeError("numbers on both sides have no element type")
        sides = [x if isinstance(x, Node) else like.filled(x) for x in (this, other)]
        return self.builder.add("where", _grown_alike((self, *sides)))

    def binary(self, op: str, other: "Operand", *, reverse: bool = False) -> "Node":
        """A pointwise operation of two; `reverse` puts the other first."""
        right = other if isinstance(other, Node) else self.filled(other)
        pair = (right, self) if reverse else (self, right)
        return self.builder.add(op, _grown_alike(pair))

    def __neg__(self) -> "Node":
        return self.apply("neg")

    def __invert__(self) -> "Node":
        return self.apply("not")

    def __add__(self, other: "Operand") -> "Node":
        return self.binary("add", other)

    def __sub__(self, other: "Operand") -> "Node":
        return self.binary("sub", other)

    def __rsub__(self, other: float) -> "Node":
        return self.binary("sub", other, reverse=True)

    def __mul__(self, other: "Operand") -> "Node":
        return self.binary("mul", other)

    def __truediv__(self, other: "Operand") -> "Node":
        return self.binary("div", other)

    def __rtruediv__(self, other: float) -> "Node":
        return self.binary("div", other, reverse=True)

    def __floordiv__(self, other: "Operand") -> "Node":
        return self.binary("floordiv", other)

    def __mod__(self, other: "Operand") -> "Node":
        return self.binary("mod", other)

    def __and__(self, other: "Operand") -> "Node":
        return self.binary("and", other)

    def __or__(self, other: "Operand") -> "Node":
        return self.binary("or", other)

    def __xor__(self, other: "Operand") -> "Node":
        return self.binary("xor", other)

    def equals(self, other: "Operand") -> "Node":
        """Where both are equal; `==` compares nodes."""
        return self.binary("eq", other)

    def differs(self, other: "Operand") -> "Node":
        """Where they are not equal."""
        return self.binary("ne", other)

    def __lt__(self, other: "Operand") -> "Node":
        return self.binary("lt", other)

    def __le__(self, other: "Operand") -> "Node":
        return self.binary("le", other)

    def __gt__(self, other: "Operand") -> "Node":
        return self.binary("gt", other)

    def __ge__(self, other: "Operand") -> "Node":
        return self.binary("ge", other)


Operand: TypeAlias = Node | float | Dim


def _grown_alike(nodes: tuple[Node, ...]) -> list[Node]:
    """All in the shape that they grow to together."""
    shape = common_shape([node.shape for node in nodes])
    return [node.expand(shape) for node in nodes]


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A nested body: parameters, effects in order (stores, binds, loops, ...), and results."""

    parameters: tuple[Node, ...]
    effects: tuple[Node, ...]
    results: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """One launch: `body` runs once for each point of `grid`, in any order or at once.

    `pointers` are nodes of op `pointer` (attributes `name` and `access`, one of "read", "write",
    "update"), one for each argument of the `call` and then one for each pure output.
    `body.parameters` are the grid indices, int64 scalars.
    """

    name: str
    grid: tuple[Dim, ...]
    pointers: tuple[Node, ...]
    body: Region


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """A named result; `updates` names the state input whose memory it takes over, if any."""

    name: str
    node: Node
    updates: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Inputs (nodes of op `input`, attributes `name` and `role`) to outputs.

    Roles: "argument" changes every run, "weight" is loaded once, "state" lives across runs and is
    replaced by the output that `updates` it.
    """

    name: str
    inputs: tuple[Node, ...]
    outputs: tuple[Output, ...]

    def nodes(self) -> list[Node]:
        """Every node reachable from the outputs and all inputs, arguments before users."""
        return walk([*self.inputs, *(output.node for output in self.outputs)])

    def symbols(self) -> tuple[Symbol, ...]:
        """The symbols of the inputs in order of first appearance."""
        found: dict[Symbol, None] = {}
        for node in self.inputs:
            found.update(dict.fromkeys(node.tensor.symbols()))
        return tuple(found)


def walk(
    roots: Iterable[Node], before: Callable[[Node], Sequence[Node]] = lambda node: node.args
) -> list[Node]:
    """Every node reachable through arguments, each once, arguments before users.

    `before` gives what comes before a node instead of its arguments. Does not enter regions; no
    recursion, as graphs are deeper than Python's stack.
    """
    seen: set[int] = set()
    order: list[Node] = []
    for root in roots:
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack.extend((other, False) for other in reversed(before(node)))
    return order


@dataclass(slots=True, weakref_slot=True)
class Builder:
    """Makes nodes; the same request gives the same object."""

    _interned: dict[tuple[object, ...], Node] = field(default_factory=dict)
    _num_parameters: int = 0
    _weak: "ref[Builder]" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._weak = ref(self)

    def add(self, op: str, args: Iterable[Node] = (), **attrs: "Attribute") -> Node:
        """A node of `op`; its type follows from the arguments and attributes.

        Raises:
            GraphError: the operation is unknown or its rule refuses the arguments.
        """
        arguments = tuple(args)
        attributes = tuple(sorted(attrs.items()))
        value_type = infer_type(op, tuple(a.type for a in arguments), dict(attributes))
        return self._intern(op, arguments, attributes, value_type)

    def number(
        self, value: float, dtype: DType, shape: Iterable[Dim] = (), space: Space = Space.TENSOR
    ) -> Node:
        """`value` everywhere in a tensor or tile."""
        plain = float(value) if dtype.is_floating else int(value)
        if dtype is DType.BOOL:
            plain = bool(value)
        where = {"space": space.value} if space is Space.TILE else {}
        return self.add("constant", value=plain, dtype=dtype, **where).expand(shape)

    def size(self, dim: Dim, space: Space = Space.TENSOR) -> Node:
        """The value that a size has, int64."""
        where = {"space": space.value} if space is Space.TILE else {}
        return self.add("size", dim=dim, **where)

    def input(
        self, name: str, type: TensorType, role: str = "argument", packing: str | None = None
    ) -> Node:
        """A graph input.

        A weight with packing "panels" is a [N, K] matrix stored as [N/16, K/p, 16, p], padded
        with zeros: N to a multiple of 16, and K of 16-bit types to a multiple of 32; `type` is the
        stored type. "stacked_panels" is the same for [E, N, K] with E in front, "as_it_is" no
        change: it only says that another weight may lie right behind.
        """
        attrs = (("name", name), ("packing", packing), ("role", role))
        return self._intern("input", (), attrs, type)

    def pointer(self, name: str, type: TensorType, access: str) -> Node:
        """A kernel's view of a whole tensor; `access` is "read", "write" or "update"."""
        return self._intern("pointer", (), (("access", access), ("name", name)), type)

    def parameter(self, type: TensorType) -> Node:
        """A fresh region parameter, never equal to another."""
        self._num_parameters += 1
        return self._intern("parameter", (), (("index", self._num_parameters),), type)

    def _intern(
        self,
        op: str,
        args: tuple[Node, ...],
        attrs: tuple[tuple[str, "Attribute"], ...],
        value_type: ValueType,
    ) -> Node:
        key = (op, tuple(map(id, args)), tuple((k, _exact(v)) for k, v in attrs), value_type)
        found = self._interned.get(key)
        if found is None:
            found = Node(op, args, attrs, value_type, self._weak)
            self._interned[key] = found
        return found


def _exact(value: object) -> object:
    """A key of an attribute: repr tells 1 from True and from 1.0, and 0.0 from -0.0."""
    if isinstance(value, tuple):
        return tuple(map(_exact, value))
    return (type(value), repr(value)) if isinstance(value, bool | int | float) else value


def scalar_type(dtype: DType) -> TensorType:
    """The type of a scalar inside a kernel."""
    return TensorType((), dtype, Space.TILE)


def iterate_regions(node: Node) -> Iterator[Region]:
    """The regions a node carries."""
    for _, value in node.attrs:
        if isinstance(value, Region):
            yield value
        elif isinstance(value, Kernel):
            yield value.body


def rebuild(
    builder: Builder,
    node: Node,
    args: tuple[Node, ...],
    attrs: Mapping[str, "Attribute"] | None = None,
) -> Node:
    """The same operation on other arguments, in `builder`."""
    if node.op == "input":
        packing = node.attr("packing")
        return builder.input(
            str(node.attr("name")),
            node.tensor,
            str(node.attr("role")),
            None if packing is None else str(packing),
        )
    if node.op in {"pointer", "parameter"}:
        raise GraphError(f"{node.op} nodes belong to one kernel and cannot be rebuilt alone")
    return builder.add(node.op, args, **dict(node.attrs if attrs is None else attrs.items()))

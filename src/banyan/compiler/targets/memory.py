"""place_memory: which memory each value of a lowered graph has, and when each step runs.

Pure. Values that live only between kernels share one arena; an updated value takes over the memory
of what it updates; results have memory of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import add

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Graph, Kernel, Node, Output, walk
from banyan.compiler.ir.packing import is_joined_weights
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import TensorType, TupleType
from banyan.foundation.errors import GraphError

ALIGNMENT_BYTES = 64


class Memory(Enum):
    """Where a value may lie."""

    INPUT = "input"
    OUTPUT = "output"
    ARENA = "arena"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Location:
    """The memory of one value: which kind, and which one of that kind."""

    memory: Memory
    index: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A stretch of the arena that is needed from step `first` to step `last`."""

    num_bytes: Dim
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel on the memory of its pointers."""

    kernel: Kernel
    locations: tuple[Location, ...]


@dataclass(frozen=True, slots=True)
class ExternCall:
    """One operation of the framework.

    Attributes:
        node: what is called.
        arguments: where they lie.
        results: where they go; None for one that nothing reads, which has no memory.
    """

    node: Node
    arguments: tuple[Location, ...]
    results: tuple[Location | None, ...]

    @property
    def types(self) -> tuple[TensorType, ...]:
        """The types of the results."""
        kinds = self.node.type
        return kinds.elements if isinstance(kinds, TupleType) else (kinds,)


@dataclass(frozen=True, slots=True)
class CopyStep:
    """A whole value copied: a new state that could not be computed in its place."""

    source: Location
    target: Location
    num_bytes: Dim


Step = Launch | ExternCall | CopyStep


@dataclass(frozen=True, slots=True)
class Placement:
    """Every step in order, and the memory they use.

    Attributes:
        steps: what runs.
        slots: the arena's parts.
        outputs: for each output of the graph, where it lies after the last step.
        output_types: what each memory of kind OUTPUT holds.
        data: the constant tensors, in the order of `Memory.DATA`.
    """

    steps: tuple[Step, ...]
    slots: tuple[Slot, ...]
    outputs: tuple[Location, ...]
    output_types: tuple[TensorType, ...]
    data: tuple[Node, ...]


_Value = tuple[Node, int]


def place_memory(graph: Graph) -> Placement:
    """Decide where every value of a lowered graph lies.

    Raises:
        GraphError: a node that is neither lowered nor extern, or an update of memory that others
            still read.
    """
    return _Placer(graph).place()


def arena_offsets(slots: Sequence[Slot], sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The offset of each slot, given its bytes, and the bytes of the whole arena.

    Largest first, each at the lowest place that no slot alive at the same time overlaps.
    """
    offsets = [0] * len(slots)
    aligned = [-(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for size in sizes]
    placed: list[int] = []
    for k in sorted(range(len(slots)), key=lambda k: (-sizes[k], slots[k].first)):
        others = sorted(
            (offsets[j], offsets[j] + aligned[j])
            for j in placed
            if slots[j].first <= slots[k].last and slots[k].first <= slots[j].last
        )
        for start, end in others:
            if offsets[k] + aligned[k] <= start:
                break
            offsets[k] = max(offsets[k], end)
        placed.append(k)
    return tuple(offsets), max(map(add, offsets, aligned), default=0)


@dataclass(slots=True)
class _Placer:
    graph: Graph
    locations: dict[_Value, Location] = field(default_factory=dict)
    data: list[Node] = field(default_factory=list)
    output_types: list[TensorType] = field(default_factory=list)
    constants: list[CopyStep] = field(default_factory=list)
    saved: list[CopyStep] = field(default_factory=list)

    def place(self) -> Placement:
        steps = _ordered_steps(self.graph)
        roots = {_root(output.node) for output in self.graph.outputs}
        for i, node in enumerate(self.graph.inputs):
            self.locations[node, 0] = Location(Memory.INPUT, i)
        outputs = [self._output(output) for output in self.graph.outputs]
        slots = self._arena(steps, roots)
        done: list[Step] = [*self.saved, *(self._step(node) for node in steps)]
        done += [*self.constants, *self._state_copies(outputs)]
        return Placement(
            tuple(done), slots, tuple(outputs), tuple(self.output_types), tuple(self.data)
        )

    def _output(self, output: Output) -> Location:
        value = _root(output.node)
        if value[0].op == "data":
            # Constants lie inside the program, where no caller can look.
            self.constants.append(self._copied(value))
            return self.constants[-1].target
        if self._shows_replaced_state(output):
            # What the state held before this run, kept aside before anything replaces it.
            self.saved.append(self._copied(value))
            return self.saved[-1].target
        if value[0].op in {"call", "extern"} and value not in self.locations:
            self.locations[value] = self._new_output(value)
        return self._location(value)

    def _copied(self, value: _Value) -> CopyStep:
        kind, target = _value_type(value), self._new_output(value)
        return CopyStep(self._location(value), target, kind.num_bytes)

    def _shows_replaced_state(self, output: Output) -> bool:
        node = _behind_views(output.node)
        if node.op != "input":
            return False
        name = str(node.attr("name"))
        return any(
            other.updates == name and _behind_views(other.node) is not node
            for other in self.graph.outputs
        )

    def _new_output(self, value: _Value) -> Location:
        self.output_types.append(_value_type(value))
        return Location(Memory.OUTPUT, len(self.output_types) - 1)

    def _location(self, value: _Value) -> Location:
        found = self.locations.get(value)
        if found is None:
            node = value[0]
            if node.op != "data":
                raise GraphError(f"{node.op} is not lowered; it cannot be placed in memory")
            found = Location(Memory.DATA, len(self.data))
            self.data.append(node)
            self.locations[value] = found
        return found

    def _arena(self, steps: Sequence[Node], roots: set[_Value]) -> tuple[Slot, ...]:
        first: dict[_Value, int] = {}
        last: dict[_Value, int] = {}
        for number, node in enumerate(steps):
            for arg in node.args:
                last[_root(arg)] = number
            for value in _fresh_results(node):
                if value not in self.locations and value not in roots:
                    first[value] = number
                    last[value] = number
        for node in steps:
            if node.op == "extern":
                self._forget_unread(node, first, last)
        for k, value in enumerate(first):
            self.locations[value] = Location(Memory.ARENA, k)
        return tuple(Slot(_value_type(v).num_bytes, first[v], last[v]) for v in first)

    @staticmethod
    def _forget_unread(node: Node, first: dict[_Value, int], last: dict[_Value, int]) -> None:
        """Give no memory to a framework's results that nothing reads: some have other shapes."""
        for value in _fresh_results(node):
            if value in first and first[value] == last[value]:
                del first[value], last[value]

    def _step(self, node: Node) -> Step:
        if node.op == "extern":
            arguments = tuple(self._location(_root(arg)) for arg in node.args)
            results = tuple(self.locations.get(value) for value in _fresh_results(node))
            return ExternCall(node, arguments, results)
        kernel, given = kernel_of(node), _arguments(node)
        fresh = iter(_fresh_results(node))
        locations = tuple(
            self._location(_root(given[pointer]) if pointer in given else next(fresh))
            for pointer in kernel.pointers
        )
        for pointer, location in zip(kernel.pointers, locations, strict=True):
            self._refuse_shared_update(pointer, location)
        return Launch(kernel, locations)

    def _refuse_shared_update(self, pointer: Node, location: Location) -> None:
        if pointer.attr("access") != "update" or location.memory is not Memory.INPUT:
            return
        node = self.graph.inputs[location.index]
        if node.attr("role") != "state":
            raise GraphError(
                f"a kernel would overwrite the {node.attr('role')} {node.attr('name')!r}; "
                "only states may be updated"
            )

    def _state_copies(self, outputs: Sequence[Location]) -> list[Step]:
        names = {str(node.attr("name")): node for node in self.graph.inputs}
        updates = [names.get(output.updates or "") for output in self.graph.outputs]
        return [
            CopyStep(source, self._location((state, 0)), state.tensor.num_bytes)
            for state, source in zip(updates, outputs, strict=True)
            if state is not None and source != self._location((state, 0))
        ]


def kernel_of(node: Node) -> Kernel:
    """The kernel of a call."""
    kernel = node.attr("kernel")
    if not isinstance(kernel, Kernel):
        raise GraphError("a call needs a kernel")
    return kernel


def _root(node: Node) -> _Value:
    """The value whose memory a node shows: views and updates are looked through."""
    while True:
        if node.op == "reshape" or is_joined_weights(node):
            node = node.args[0]
            continue
        value = _result(node)
        updated = _updated_argument(value)
        if updated is None:
            return value
        node = updated


def _result(node: Node) -> _Value:
    return (node.args[0], integer(node, "index")) if node.op == "get" else (node, 0)


def _arguments(node: Node) -> dict[Node, Node]:
    """The argument behind each pointer of a call that reads or updates one."""
    given = [p for p in kernel_of(node).pointers if p.attr("access") != "write"]
    return dict(zip(given, node.args, strict=True))


def _updated_argument(value: _Value) -> Node | None:
    """The argument whose memory a result of a call takes over."""
    node, index = value
    if node.op != "call":
        return None
    pointers = [p for p in kernel_of(node).pointers if p.attr("access") != "read"]
    return _arguments(node).get(pointers[index])


def _fresh_results(node: Node) -> list[_Value]:
    count = len(node.type.elements) if isinstance(node.type, TupleType) else 1
    return [(node, i) for i in range(count) if _updated_argument((node, i)) is None]


def _value_type(value: _Value) -> TensorType:
    node, index = value
    return node.type.elements[index] if isinstance(node.type, TupleType) else node.type


def _ordered_steps(graph: Graph) -> list[Node]:
    """Calls and externs, arguments first, and readers of old contents before their update."""
    steps = [node for node in graph.nodes() if node.op in {"call", "extern"}]
    number = {node: i for i, node in enumerate(steps)}
    after: dict[Node, set[Node]] = {node: set() for node in steps}
    readers: dict[_Value, set[Node]] = {}
    for node in steps:
        for arg in node.args:
            value = _result(_behind_views(arg))
            readers.setdefault(value, set()).add(node)
            if value[0] in number:
                after[node].add(value[0])
    for node in steps:
        for old in _updated_values(node):
            after[node] |= readers[old] - {node}
    order = walk(steps, lambda node: sorted(after[node], key=number.__getitem__))
    place = {node: i for i, node in enumerate(order)}
    if any(place[other] > place[node] for node in steps for other in after[node]):
        raise GraphError("a value is read after the update that depends on that reading")
    return order


def _behind_views(node: Node) -> Node:
    while node.op == "reshape":
        node = node.args[0]
    return node


def _updated_values(node: Node) -> list[_Value]:
    given = _arguments(node) if node.op == "call" else {}
    return [
        _result(_behind_views(arg))
        for pointer, arg in given.items()
        if pointer.attr("access") == "update"
    ]

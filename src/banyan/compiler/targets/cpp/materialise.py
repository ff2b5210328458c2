"""Which tiles of a kernel are kept in scratch memory; all others are computed where they are used.

A loop that carries `sums * fade + dot + dot` needs no memory for each dot either: the carried tile
is scaled in place and the micro-kernel adds to it. Pure: looks at the kernel's nodes only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from banyan.compiler.ir.attributes import has
from banyan.compiler.ir.graph import Node, Region
from banyan.compiler.ir.groups import users_of
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import Dim, product, upper_bound
from banyan.compiler.ir.types import DType, TupleType
from banyan.compiler.targets.cpp.expressions import COSTS

BARRIERS = frozenset(
    {"reduce", "cumsum", "dot", "packed_dot", "group_rows", "quantize_rows", "quantized_dot"}
)
"""Operations whose results are always kept: an element depends on many elements."""

_FREE = frozenset({"iota", "load", "constant", "expand"})
DOTS = frozenset({"dot", "packed_dot", "quantize_rows", "quantized_dot"})
"""Operations that micro-kernels compute: they read whole tiles."""

_WORTH_KEEPING = 6
_EXPENSIVE = 10
_LARGEST_OPTIONAL_BYTES = 4 << 20


def kept_tiles(
    order: Mapping[Region, Sequence[Node]], is_direct: Callable[[Node, Node], bool]
) -> frozenset[Node]:
    """The nodes to keep, given the placement of the whole kernel: arguments before their users.

    `is_direct(operand, dot)` is true where the dot reads the operand where it lies.
    """
    nodes = [node for region in order.values() for node in region]
    users = users_of(nodes)
    costs = _costs(nodes)
    kept: set[Node] = {node for node in nodes if node.op in BARRIERS and is_tile(node)}
    results = {result for region in order for result in region.results}
    readers: dict[Node, frozenset[Node]] = {}
    for node in reversed(nodes):
        found = _readers(users.get(node, ()), kept, readers)
        readers[node] = found | {node} if node in results else found
        if not is_tile(node) or node in kept:
            continue
        dots = [user for user in users.get(node, ()) if user.op in DOTS]
        if dots:
            wanted = not all(is_direct(node, dot) for dot in dots)
        else:
            wanted = _is_worth_keeping(node, users.get(node, ()), readers[node], costs)
        if wanted:
            kept.add(node)
    return frozenset(kept)


def is_tile(node: Node) -> bool:
    """True for a single value with at least one dim."""
    return not isinstance(node.type, TupleType) and node.shape != ()


def _costs(nodes: Iterable[Node]) -> dict[Node, int]:
    """About how many instructions one element takes when nothing on the way is kept."""
    costs: dict[Node, int] = {}
    for node in nodes:
        if not is_tile(node) or node.op in BARRIERS:
            costs[node] = 1
            continue
        own = COSTS.get(node.op, 1) if node.op in POINTWISE else 1
        costs[node] = own + sum(costs.get(arg, 1) for arg in node.args if is_tile(arg))
    return costs


def _readers(
    users: Iterable[Node], kept: set[Node], readers: Mapping[Node, frozenset[Node]]
) -> frozenset[Node]:
    """The loop nests that would evaluate a node: those of stores, kept tiles, scalars, loops."""
    found: set[Node] = set()
    for user in users:
        if user in kept or not is_tile(user):
            found.add(user)
        else:
            found |= readers.get(user, frozenset())
    return frozenset(found)


def _is_worth_keeping(
    node: Node, users: Sequence[Node], readers: frozenset[Node], costs: Mapping[Node, int]
) -> bool:
    if node.op in _FREE or _bytes(node.shape) > _LARGEST_OPTIONAL_BYTES:
        return False
    if len(readers) > 1 and costs[node] >= _WORTH_KEEPING:
        return True
    return costs[node] >= _EXPENSIVE and any(_repeats(node, user) for user in users)


def _repeats(node: Node, user: Node) -> bool:
    """True when `user` would compute each element of `node` again in an outer loop."""
    if user.op in {"gather", "take_along", "cumsum"}:
        return node is user.args[0]
    if user.op != "expand":
        return False
    skipped = len(user.shape) - len(node.shape)
    lead = (None,) * skipped
    sizes = zip((*lead, *node.shape), user.shape, strict=True)
    grown = [axis for axis, (have, want) in enumerate(sizes) if have != want]
    wide = [a for a, size in enumerate(node.shape) if size != 1]
    return bool(grown and wide) and grown[0] < wide[-1] + skipped


def _bytes(shape: tuple[Dim, ...]) -> int:
    return 4 * upper_bound(product(shape))


@dataclass(frozen=True, slots=True)
class Accumulation:
    """`base` plus every one of `dots`."""

    base: Node
    dots: tuple[Node, ...]


def accumulations(order: Mapping[Region, Sequence[Node]]) -> dict[Node, Accumulation]:
    """For each carried result that is such a sum, its parts."""
    users = users_of(node for nodes in order.values() for node in nodes)
    results = [result for region in order for result in region.results]
    found: dict[Node, Accumulation] = {}
    for result in results:
        if not is_tile(result) or result.dtype is not DType.FLOAT32 or result.op != "add":
            continue
        terms = _terms(result, lambda node: len(users.get(node, ())) == 1 and node not in results)
        dots = tuple(term for term, is_own in terms if is_own and is_tile_dot(term))
        others = [term for term, is_own in terms if not (is_own and is_tile_dot(term))]
        if dots and len(others) == 1 and results.count(result) == 1 and not users.get(result):
            found[result] = Accumulation(others[0], dots)
    return found


def _terms(result: Node, is_own: Callable[[Node], bool]) -> list[tuple[Node, bool]]:
    """The terms of a sum, each with whether nothing else uses it, in order."""
    found: list[tuple[Node, bool]] = []
    pending = [(arg, is_own(arg)) for arg in reversed(result.args)]
    while pending:
        node, own = pending.pop()
        if own and node.op == "add":
            pending += [(arg, is_own(arg)) for arg in reversed(node.args)]
        else:
            found.append((node, own))
    return found


def is_tile_dot(node: Node) -> bool:
    """True for a product with a packed block."""
    return node.op == "dot" and has(node, "packed")

"""Carried sums that dots add to where they lie.

A loop that carries `sums * fade + dot + dot` needs no memory for each dot: the carried tile is
scaled in place and the micro-kernel adds to it. Pure: looks at the kernel's nodes only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from banyan.compiler.ir.graph import Node, Region
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.materialise import is_tile, users_of


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
        if dots and len(others) == 1 and results.count(result) == 1 and result not in users:
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
    return node.op == "dot" and dict(node.attrs).get("packed") is True

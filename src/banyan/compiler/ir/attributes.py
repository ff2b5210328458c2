"""Attributes of a node read with the type that its operation promises."""

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, Expression
from banyan.foundation.errors import GraphError


def integer(node: Node, name: str) -> int:
    """An attribute that is a plain number.

    Raises:
        GraphError: it is something else.
    """
    value = node.attr(name)
    if not isinstance(value, int):
        raise GraphError(f"{node.op}: {name} is {value!r}, not an integer")
    return value


def integers(node: Node, name: str) -> tuple[int, ...]:
    """An attribute that is a tuple of plain numbers.

    Raises:
        GraphError: it is something else.
    """
    value = node.attr(name)
    if not isinstance(value, tuple):
        raise GraphError(f"{node.op}: {name} is {value!r}, not a tuple")
    found = tuple(item for item in value if isinstance(item, int))
    if len(found) != len(value):
        raise GraphError(f"{node.op}: {name} is {value!r}, not integers")
    return found


def size(node: Node, name: str) -> Dim:
    """An attribute that is a size.

    Raises:
        GraphError: it is something else.
    """
    value = node.attr(name)
    if not isinstance(value, int | Expression):
        raise GraphError(f"{node.op}: {name} is {value!r}, not a size")
    return value


def number(node: Node, name: str) -> int | float:
    """An attribute that is a number or a flag.

    Raises:
        GraphError: it is something else.
    """
    value = node.attr(name)
    if not isinstance(value, int | float):
        raise GraphError(f"{node.op}: {name} is {value!r}, not a number")
    return value


def has(node: Node, name: str) -> bool:
    """True for an attribute that is there and set."""
    return bool(dict(node.attrs).get(name))

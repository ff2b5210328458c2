"""Who reads a node, and which nodes are computed together when some lie in memory."""

from collections.abc import Callable, Iterable

from banyan.compiler.ir.graph import Node


def users_of(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """For each node and argument those that have it as an argument, as often as they do."""
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        users.setdefault(node, [])
        for arg in node.args:
            users.setdefault(arg, []).append(node)
    return users


def group_of(
    roots: Iterable[Node], is_memory: Callable[[Node], bool]
) -> tuple[list[Node], list[Node]]:
    """The nodes computed for `roots`, these first, and the nodes in memory that they read.

    Roots are computed wherever their results lie; one that another root reads is read as well.
    """
    inside, read = dict.fromkeys(roots), dict[Node, None]()
    pending = list(inside)
    while pending:
        for arg in pending.pop().args:
            if is_memory(arg):
                read[arg] = None
            elif arg not in inside:
                inside[arg] = None
                pending.append(arg)
    return list(inside), list(read)

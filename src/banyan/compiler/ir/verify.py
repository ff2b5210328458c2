"""The written rules a graph must keep, checked before and after each pass."""

from collections.abc import Iterator

from banyan.compiler.ir.graph import Graph, Kernel, Node, Region, scalar_type
from banyan.compiler.ir.operations import infer_type
from banyan.compiler.ir.placement import place
from banyan.compiler.ir.types import DType, Space, TensorType, TupleType
from banyan.foundation.errors import GraphError

KERNEL_ONLY = frozenset({"load", "store", "loop", "bind", "pointer", "parameter"})
ROLES = frozenset({"argument", "weight", "state"})


def verify(graph: Graph) -> Graph:
    """Return `graph` unchanged if it keeps every rule.

    1. Input names are unique and roles are known; every input node is listed.
    2. Each node's type is what its operation infers.
    3. Outside kernels there are tensors only; inside kernels, tiles.
    4. A kernel stores only into its own "write" and "update" pointers, has one int64 parameter
       for each grid axis, and loads only from its own pointers.
    5. An output that updates a state has the state's type, and no state is updated twice.

    Raises:
        GraphError: naming the rule and the node.
    """
    _check_inputs(graph)
    for node in graph.nodes():
        _check_tensor_node(graph, node)
    _check_outputs(graph)
    return graph


def _check_inputs(graph: Graph) -> None:
    names = [str(node.attr("name")) for node in graph.inputs]
    repeated = sorted({name for name in names if names.count(name) > 1}) if names else []
    _rule(not repeated, graph.name, f"inputs {repeated} are named twice")
    for node in graph.inputs:
        _rule(node.attr("role") in ROLES, graph.name, f"role {node.attr('role')!r} is unknown")


def _check_tensor_node(graph: Graph, node: Node) -> None:
    where = f"{graph.name}: {node.op}"
    _rule(node.op not in KERNEL_ONLY, where, "belongs inside a kernel")
    if node.op == "input":
        _rule(node in graph.inputs, where, f"{node.attr('name')} is not among the graph's inputs")
        return
    _check_type(where, node)
    for element in _elements(node):
        _rule(element.space is Space.TENSOR, where, "makes a tile outside a kernel")
    for _, value in node.attrs:
        if isinstance(value, Kernel):
            _check_kernel(value)


def _check_outputs(graph: Graph) -> None:
    states = {str(n.attr("name")): n for n in graph.inputs if n.attr("role") == "state"}
    updated = [o.updates for o in graph.outputs if o.updates is not None]
    _rule(len(set(updated)) == len(updated), graph.name, f"a state is updated twice: {updated}")
    for output in graph.outputs:
        if output.updates is not None:
            state = states.get(output.updates)
            _rule(state is not None, output.name, f"updates {output.updates}, which is no state")
            same = state is not None and state.type == output.node.type
            _rule(same, output.name, f"is {output.node.type}, unlike the state it updates")


def _check_kernel(kernel: Kernel) -> None:
    pointers = frozenset(kernel.pointers)
    _rule(
        tuple(p.type for p in kernel.body.parameters)
        == (scalar_type(DType.INT64),) * len(kernel.grid),
        kernel.name,
        "needs one int64 scalar for each grid axis",
    )
    _rule(not kernel.body.results, kernel.name, "a kernel's body yields nothing")
    for node in _region_nodes(kernel.body):
        where = f"kernel {kernel.name}: {node.op}"
        _check_type(where, node)
        for element in _elements(node):
            _rule(element.space is Space.TILE, where, "makes a tensor inside a kernel")
        if node.op in {"load", "store"}:
            pointer = node.args[0]
            _rule(pointer in pointers, where, "uses a pointer of another kernel")
            writable = pointer.attr("access") != "read"
            _rule(node.op == "load" or writable, where, f"writes {pointer.attr('name')}")


def _region_nodes(body: Region) -> Iterator[Node]:
    for nodes in place(body).values():
        yield from nodes


def _check_type(where: str, node: Node) -> None:
    inferred = infer_type(node.op, tuple(arg.type for arg in node.args), dict(node.attrs))
    _rule(inferred == node.type, where, f"is marked {node.type} but computes {inferred}")


def _elements(node: Node) -> tuple[TensorType, ...]:
    return node.type.elements if isinstance(node.type, TupleType) else (node.type,)


def _rule(holds: bool, where: str, message: str) -> None:
    if not holds:
        raise GraphError(f"{where}: {message}")


def operations_used(graph: Graph) -> dict[str, int]:
    """How often each operation occurs outside kernels; for reports and tests."""
    counts: dict[str, int] = {}
    for node in graph.nodes():
        counts[node.op] = counts.get(node.op, 0) + 1
    return counts

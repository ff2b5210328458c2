"""Which inputs must start on a cache line: those whose packed blocks a micro-kernel reads."""

from banyan.compiler.ir.attributes import has
from banyan.compiler.ir.graph import Kernel, Node
from banyan.compiler.ir.placement import place
from banyan.compiler.targets.memory import Launch, Memory, Placement


def aligned_inputs(placement: Placement) -> frozenset[int]:
    """The numbers of the inputs that hold packed blocks."""
    launches = [step for step in placement.steps if isinstance(step, Launch)]
    blocks = {kernel: _block_pointers(kernel) for kernel in {step.kernel for step in launches}}
    return frozenset(
        location.index
        for step in launches
        for pointer, location in zip(step.kernel.pointers, step.locations, strict=True)
        if location.memory is Memory.INPUT and pointer in blocks[step.kernel]
    )


def _block_pointers(kernel: Kernel) -> frozenset[Node]:
    nodes = (node for nodes in place(kernel.body).values() for node in nodes)
    blocks = (_before_moves(node.args[1]) for node in nodes if _is_packed(node))
    return frozenset(block.args[0] for block in blocks if block.op == "load")


def _before_moves(node: Node) -> Node:
    """Blocks that are gathered are only looked at in another order."""
    while node.op in {"reshape", "permute"}:
        node = node.args[0]
    return node


def _is_packed(node: Node) -> bool:
    return node.op == "packed_dot" or (node.op == "dot" and has(node, "packed"))

"""Numbers of 4 bits, two in a byte: written with ordinary operations, and found again."""

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.match import fill_value
from banyan.compiler.ir.types import DType


def unpacked(packed: Node) -> Node:
    """u8[..., E] as u8[..., 2 E]: of each byte the low half, then the high one.

    Each byte stands twice, divided by 1 and by 16; the low 4 bits are the numbers.
    """
    place = packed.builder.add("iota", size=2, dtype=DType.UINT8, space=packed.tensor.space.value)
    twice = packed.reshape((*packed.shape, 1)) // (place * 15 + 1)
    return (twice & 15).reshape((*packed.shape[:-1], packed.shape[-1] * 2))


def packed_bytes(numbers: Node) -> Node | None:
    """What `unpacked` made `numbers` of; None for any other node."""
    low = _behind(numbers, "reshape", "and")
    if low is None or fill_value(low.args[1]) != 15:
        return None
    divisor = _behind(low.args[0].args[-1], "expand", "add", "mul", "iota")
    found = _behind(low.args[0], "floordiv", "expand", "reshape")
    if divisor is None or found is None:
        return None
    packed = found.args[0]
    doubled = (*packed.shape[:-1], packed.shape[-1] * 2)
    return packed if packed.dtype is DType.UINT8 and numbers.shape == doubled else None


def _behind(node: Node, *operations: str) -> Node | None:
    """The last node of a chain of first arguments, if these are its operations."""
    found = node
    for i, operation in enumerate(operations):
        found = found.args[0] if i else found
        if found.op != operation:
            return None
    return found

"""The contents of KV-cache blocks as bytes, out of a program's states and back into them.

Knows that every state whose first dim is the number of blocks holds one entry for each block, and
nothing of what the entries mean: keys, values, scales, any format. Called by `block_spill`.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.executable import Executable, evaluate_shape


class BlockMemory(Protocol):
    """Something with blocks that can be copied."""

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block in all layers."""
        ...

    def read(self, block: int) -> bytes:
        """Copy a block out."""
        ...

    def write(self, block: int, content: bytes) -> None:
        """Copy a block in; `content` came from `read` of the same model and format."""
        ...


class ExecutableBlocks:
    """The blocks of a compiled or interpreted step.

    Args:
        executable: its states are allocated.
        num_blocks: how many blocks they hold.
        size_symbol: the name of that size in the graph.
    """

    def __init__(self, executable: Executable, num_blocks: int, *, size_symbol: str) -> None:
        self._executable = executable
        self._parts: list[tuple[str, tuple[int, ...], np.dtype[Any]]] = []
        for argument in executable.inputs:
            if argument.role != "state" or str(argument.type.shape[0]) != size_symbol:
                continue
            shape = evaluate_shape(argument.type, {size_symbol: num_blocks})[1:]
            self._parts.append((argument.name, tuple(shape), argument.type.dtype.numpy))
        assert self._parts, f"no state has {size_symbol} entries"

    @property
    def bytes_per_block(self) -> int:
        """Bytes of one block in all layers."""
        return sum(int(np.prod(shape)) * dtype.itemsize for _, shape, dtype in self._parts)

    def read(self, block: int) -> bytes:
        """Copy a block out, state after state."""
        names = [name for name, _, _ in self._parts]
        parts = self._executable.read_state_parts(names, [block])
        return b"".join(parts[name].tobytes() for name in names)

    def write(self, block: int, content: bytes) -> None:
        """Copy a block in."""
        assert len(content) == self.bytes_per_block, "these are not the bytes of one block"
        parts: dict[str, NDArray[Any]] = {}
        start = 0
        for name, shape, dtype in self._parts:
            count = int(np.prod(shape))
            parts[name] = np.frombuffer(content, dtype, count, start).reshape(1, *shape)
            start += parts[name].nbytes
        self._executable.write_state_parts(parts, [block])

"""The memory of values that live between kernels: where each lies in a run, and what runs take."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from banyan.compiler.ir.symbols import Dim, substitute, symbol, upper_bound
from banyan.compiler.targets.memory import Slot, arena_offsets
from banyan.devices.device import Buffer, Device

LARGEST_FIXED_BYTES = 4 << 30
"""Memory reserved for the largest sizes at once; beyond it, memory grows with the sizes asked."""


@dataclass(slots=True)
class Arena:
    """Memory between kernels: placed once for the largest sizes, or for each power of two of them.

    Placing hundreds of values takes longer than a small kernel, so no run but the first of its
    size should do it.
    """

    device: Device
    slots: tuple[Slot, ...]
    symbols: tuple[str, ...]
    fixed: tuple[int, ...] | None = None
    buffer: Buffer | None = None
    known: dict[tuple[int, ...], tuple[tuple[int, ...], int]] = field(default_factory=dict)

    def offsets(self, values: Mapping[str, int]) -> tuple[int, ...]:
        """The offset of every slot in this run; afterwards `buffer` is large enough."""
        if self.fixed is not None:
            return self.fixed
        if not self.known:
            largest = arena_offsets(self.slots, [upper_bound(s.num_bytes) for s in self.slots])
            if largest[1] <= LARGEST_FIXED_BYTES:
                self.fixed, self.buffer = largest[0], self.device.allocate(max(largest[1], 64))
                return self.fixed
        key = tuple(1 << max(values[name] - 1, 0).bit_length() for name in self.symbols)
        if key not in self.known:
            # A slot may need the most where one size is the least of those that round alike.
            bounds = {n: symbol(n, k // 2, k) for n, k in zip(self.symbols, key, strict=True)}
            sizes = [upper_bound(substitute(slot.num_bytes, bounds)) for slot in self.slots]
            self.known[key] = arena_offsets(self.slots, sizes)
        offsets, total = self.known[key]
        if self.buffer is None or self.buffer.num_bytes < total:
            self.buffer = self.device.allocate(max(total, 64))
        return offsets

    def bytes_within(self, most: Mapping[str, int]) -> int:
        """What runs of at most these sizes touch."""
        largest = {n: 1 << max(size - 1, 0).bit_length() for n, size in most.items()}
        sizes = [most_bytes(slot.num_bytes, largest) for slot in self.slots]
        whole, total = arena_offsets(self.slots, [upper_bound(s.num_bytes) for s in self.slots])
        if total > LARGEST_FIXED_BYTES:
            return arena_offsets(self.slots, sizes)[1]
        touched, end = 0, 0
        for start, size in sorted(zip(whole, sizes, strict=True)):
            touched += max(0, start + size - max(start, end))
            end = max(end, start + size)
        return touched


def most_bytes(num_bytes: Dim, most: Mapping[str, int]) -> int:
    """The largest of a size whose symbols are at most `most`; others are within their own."""
    return upper_bound(substitute(num_bytes, {n: symbol(n, 1, m) for n, m in most.items()}))

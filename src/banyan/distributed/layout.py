"""Where the arrays of a message lie in its bytes. Pure, but for what is remembered.

Owns `Layout` and `Layouts`. Nearly every message of a step has the names, dtypes and shapes of the
same message one step before: what was checked and printed once is looked up the next time.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from banyan.distributed.channel import Array, TypedShape
from banyan.distributed.frames import (
    ALIGNMENT,
    DTYPES,
    ArrayHead,
    FrameLimits,
    print_arrays,
    read_arrays,
)
from banyan.foundation.errors import DamagedMessage, InputError

_MOST_DIMS = 32
_MOST_REMEMBERED = 256
# Of the list of arrays in MessagePack; longer ones are rare and would fill the memory.
_LONGEST_REMEMBERED = 4096

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
# dtype.name is slow; a dtype whose bytes are in the other order is another key.
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class PlacedArray(msgspec.Struct, frozen=True, eq=False):
    """One array: its bytes begin `offset` into those of the message."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def end(self) -> int:
        """Where its bytes end."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


class Layout(msgspec.Struct, frozen=True, eq=False):
    """All arrays of a message.

    Attributes:
        arrays: in the order of the message.
        printed: the same as a list of `ArrayHead` in MessagePack, as the head of a message has it.
        num_bytes: that they take together, gaps included.
    """

    arrays: tuple[PlacedArray, ...]
    printed: msgspec.Raw
    num_bytes: int

    def views(self, data: Bytes, start: int = 0) -> dict[str, Array]:
        """The arrays by name, lying in `data` (1-dimensional) from `start` on."""
        return {a.name: np.ndarray(a.shape, a.dtype, data, start + a.offset) for a in self.arrays}


class Layouts:
    """Lays out what one channel sends, and reads how the other side laid out what comes.

    One thread at a time calls `of`, one `read`; the two share nothing that changes.
    """

    def __init__(self, limits: FrameLimits) -> None:
        """Remember nothing yet; `limits` are of the channel."""
        self._limits = limits
        self._sent: dict[Any, Layout] = {}
        self._read: dict[bytes, Layout] = {}

    def of(self, kind: str, arrays: Mapping[str, Array] | Mapping[str, TypedShape]) -> Layout:
        """The arrays of a message one behind the other, each at a multiple of `ALIGNMENT`.

        Raises:
            InputError: they are too many or too large, or of a dtype that cannot be sent.
        """
        key = tuple([(name, a.dtype, a.shape) for name, a in arrays.items()])
        known = self._sent.get(key)
        if known is None:
            known = _lay_out(kind, key, self._limits)
            _remember(self._sent, key, known)
        return known

    def read(self, kind: str, printed: msgspec.Raw, size: int) -> Layout:
        """What the other side says of its arrays.

        Args:
            kind: of the message.
            printed: the list in its head.
            size: bytes of all its arrays; every array lies inside.

        Raises:
            DamagedMessage: it is no such list, or an array lies outside.
        """
        key = bytes(printed)
        known = self._read.get(key)
        if known is None or known.num_bytes > size:
            known = _read_layout(kind, printed, size, self._limits)
            _remember(self._read, key, known)
        return known


def _remember(known: dict[Any, Layout], key: Any, layout: Layout) -> None:
    if len(bytes(layout.printed)) > _LONGEST_REMEMBERED:
        return
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
    known[key] = layout


def _lay_out(
    kind: str, arrays: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]], limits: FrameLimits
) -> Layout:
    if len(arrays) > limits.arrays:
        raise InputError(
            f"Message {kind!r} has {len(arrays)} arrays; at most {limits.arrays} are sent at once."
        )
    placed, end = [], 0
    for name, dtype, shape in arrays:
        if dtype not in _DTYPE_NAMES or len(shape) > _MOST_DIMS:
            raise InputError(
                f"Array {name!r} of message {kind!r} is {len(shape)}-dimensional of {dtype}; sent"
                f" are at most {_MOST_DIMS} dims of {', '.join(DTYPES)}."
            )
        placed.append(PlacedArray(name, dtype, shape, end))
        end = -(-placed[-1].end // ALIGNMENT) * ALIGNMENT
    if end > limits.body_bytes:
        raise InputError(
            f"Message {kind!r} has {end} bytes of arrays; at most {limits.body_bytes} are sent at"
            f" once: send it in parts."
        )
    return Layout(tuple(placed), print_arrays(_heads(placed)), end)


def _heads(arrays: Iterable[PlacedArray]) -> list[ArrayHead]:
    return [ArrayHead(a.name, _DTYPE_NAMES[a.dtype], a.shape, a.offset) for a in arrays]


def _read_layout(kind: str, printed: msgspec.Raw, size: int, limits: FrameLimits) -> Layout:
    heads = read_arrays(printed, kind)
    if len(heads) > limits.arrays:
        raise DamagedMessage(
            f"Message {kind!r} has {len(heads)} arrays; the limit is {limits.arrays}."
        )
    placed = tuple(_placed(head, kind, size) for head in heads)
    return Layout(placed, printed.copy(), max((array.end for array in placed), default=0))


def _placed(head: ArrayHead, kind: str, size: int) -> PlacedArray:
    dtype = DTYPES.get(head.dtype)
    if dtype is None:
        raise DamagedMessage(f"Array {head.name!r} of message {kind!r} is of {head.dtype!r}.")
    is_sound = len(head.shape) <= _MOST_DIMS and head.offset % ALIGNMENT == 0
    # A dim of 0 must not hide a negative or an absurd one: numpy counts elements without it.
    largest = math.prod(max(1, extent) for extent in head.shape) * dtype.itemsize
    if (
        not is_sound
        or min(head.shape, default=0) < 0
        or head.offset < 0
        or largest >= 1 << 62
        or head.offset + math.prod(head.shape) * dtype.itemsize > size
    ):
        raise DamagedMessage(
            f"Array {head.name!r} of message {kind!r} is {list(head.shape)} of {head.dtype} at"
            f" {head.offset}; that is not inside the {size} bytes of the message."
        )
    return PlacedArray(head.name, dtype, head.shape, head.offset)

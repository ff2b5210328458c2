"""Read one safetensors file through a memory map.

The format (https://github.com/huggingface/safetensors#format): 8 bytes little endian give the
length of a JSON header; the header maps each name to dtype, shape and the byte range of its data,
counted from the end of the header. We read it ourselves because the safetensors package gives
NumPy copies, not views, and views keep the memory at load small.
"""

import json
import math
import mmap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from banyan.foundation.errors import ModelError, UnsupportedModelError

# The limit that the format itself sets; a longer one is a damaged or hostile file.
MAX_HEADER_BYTES = 100_000_000

_LENGTH_BYTES = 8
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
_READABLE: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_RAW: dict[str, np.dtype[Any]] = _READABLE | {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies: `start` and `num_bytes` count from the begin of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int


class SafetensorsFile:
    """A mapped and validated file; tensors are read-only views into it."""

    def __init__(self, path: Path) -> None:
        """Map `path` and check that its header and its length agree.

        Raises:
            ModelError: missing, truncated or damaged.
        """
        self.path = path
        try:
            num_bytes = path.stat().st_size
            with path.open("rb") as file:
                self.entries = _read_header(file.read(_LENGTH_BYTES), file.read, path, num_bytes)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise ModelError(f"weight file {path} does not exist; download it again") from error
        except OSError as error:
            raise ModelError(f"weight file {path} cannot be read: {error}") from error

    def names(self) -> Collection[str]:
        """Give the names of all tensors."""
        return self.entries.keys()

    def read(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Give a read-only view of floats; its pages are read from disk when touched."""
        return self._view(name, _READABLE)

    def read_raw(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Give a read-only view of what a quantised layer is stored as, integers too."""
        return self._view(name, _RAW)

    def _view(
        self, name: str, dtypes: Mapping[str, np.dtype[Any]]
    ) -> np.ndarray[Any, np.dtype[Any]]:
        entry = self.entries[name]
        if entry.dtype not in dtypes:
            raise UnsupportedModelError(
                f"tensor {name} in {self.path} is stored as {entry.dtype}; supported are "
                f"{', '.join(dtypes)}"
            )
        count = math.prod(entry.shape)
        if count == 0:
            return np.empty(entry.shape, dtypes[entry.dtype])
        flat = np.frombuffer(self._map, dtypes[entry.dtype], count, entry.start)
        return flat.reshape(entry.shape)

    def release(self, name: str) -> None:
        """Let the system drop the pages of a tensor; a later read loads them again."""
        entry = self.entries[name]
        # Whole pages only: the first and the last one may hold a neighbour that is in use.
        start = -(-entry.start // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = (entry.start + entry.num_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)


def _read_header(
    length_field: bytes, read: Any, path: Path, file_bytes: int
) -> dict[str, TensorEntry]:
    header_bytes = int.from_bytes(length_field, "little")
    if len(length_field) < _LENGTH_BYTES or header_bytes > MAX_HEADER_BYTES:
        raise ModelError(
            f"{path} is not a safetensors file: its {file_bytes} bytes hold no valid header length"
        )
    data_start = _LENGTH_BYTES + header_bytes
    _require_bytes(path, expected=data_start, actual=file_bytes)
    try:
        header = json.loads(read(header_bytes))
        entries = {
            name: _parse_entry(fields, data_start)
            for name, fields in header.items()
            if name != "__metadata__"
        }
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ModelError(f"{path} has a damaged safetensors header: {error}") from error
    end = max((entry.start + entry.num_bytes for entry in entries.values()), default=data_start)
    _require_bytes(path, expected=end, actual=file_bytes)
    return entries


def _parse_entry(fields: dict[str, Any], data_start: int) -> TensorEntry:
    begin, end = fields["data_offsets"]
    shape = tuple(int(size) for size in fields["shape"])
    dtype = fields["dtype"]
    if not all(isinstance(place, int) for place in (begin, end)):
        raise TypeError(f"a tensor at bytes {begin!r} to {end!r}")
    if begin < 0 or end < begin or any(size < 0 for size in shape):
        raise ValueError(f"a tensor with shape {shape} at bytes {begin} to {end}")
    if dtype in ITEM_BYTES and end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"shape {shape} of {dtype} does not fill bytes {begin} to {end}")
    return TensorEntry(dtype, shape, data_start + begin, end - begin)


def _require_bytes(path: Path, *, expected: int, actual: int) -> None:
    if actual < expected:
        raise ModelError(
            f"{path} is truncated: it should hold {expected} bytes and holds {actual}; "
            "download it again"
        )

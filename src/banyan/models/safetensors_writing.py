"""Write safetensors files tensor by tensor, in shards, without holding more than one tensor.

The header stands in front of the data, so names, types and shapes of all tensors come first.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import StorageFull
from banyan.models.safetensors_file import ITEM_BYTES

SHARD_BYTES = 4 * 10**9
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor to write: its name, element type as the format calls it, and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def write_safetensors(
    directory: Path,
    tensors: Sequence[PlannedTensor],
    read: Callable[[str], NDArray[Any]],
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write every tensor in order, one file or several with an index.

    `read` gives the data of a tensor, of the planned size. `progress` is told (done, all).

    Raises:
        StorageFull: the disk cannot hold it.
    """
    shards = _shards(tensors, shard_bytes)
    names = ["model.safetensors"]
    if len(shards) > 1:
        count = len(shards)
        names = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    done = 0
    try:
        for name, shard in zip(names, shards, strict=True):
            with (directory / name).open("wb") as file:
                file.write(_header(shard))
                for tensor in shard:
                    _write(file, tensor, read(tensor.name))
                    done += 1
                    if progress is not None:
                        progress(done, len(tensors))
        if len(shards) > 1:
            _write_index(directory, names, shards)
    except OSError as error:
        raise StorageFull(f"{directory} cannot be written: {error}") from error


def _shards(tensors: Sequence[PlannedTensor], limit: int) -> list[list[PlannedTensor]]:
    shards: list[list[PlannedTensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.num_bytes > limit:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.num_bytes
    return shards


def _header(shard: Sequence[PlannedTensor]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in shard:
        fields[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [at, at + tensor.num_bytes],
        }
        at += tensor.num_bytes
    text = json.dumps(fields, separators=(",", ":")).encode()
    # The format lets a header end in spaces; data that begins at a round place maps better.
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write(file: IO[bytes], tensor: PlannedTensor, data: NDArray[Any]) -> None:
    octets = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if octets.size != tensor.num_bytes:
        raise ValueError(f"{tensor.name} has {octets.size} bytes, not {tensor.num_bytes}")
    file.write(octets.data)


def _write_index(
    directory: Path, names: Sequence[str], shards: Sequence[Sequence[PlannedTensor]]
) -> None:
    owners = {t.name: name for name, shard in zip(names, shards, strict=True) for t in shard}
    total = sum(tensor.num_bytes for shard in shards for tensor in shard)
    index = {"metadata": {"total_size": total}, "weight_map": owners}
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps(index, indent=1), encoding="utf-8")

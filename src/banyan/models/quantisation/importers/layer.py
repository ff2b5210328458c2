"""What every importer gives: the parts of a layer, each made from tensors of the checkpoint.

Importers look at headers only, so everything that does not fit is told before the first weight is
read. Legend: N rows (outputs), K inputs, G groups of one row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banyan.foundation.errors import ModelError
from banyan.models.quantisation.scheme import LinearScheme
from banyan.models.quantisation.settings import LayerSettings
from banyan.models.weights import CheckpointWeights

Array: TypeAlias = NDArray[Any]
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Part:
    """Made by `convert` from the tensors of these names, in this order."""

    tensors: tuple[str, ...]
    convert: Callable[..., Array]


@dataclass(frozen=True, slots=True)
class ImportedLayer:
    """A quantised layer: its scheme, and "weight", "scales", and where it has them others."""

    scheme: LinearScheme
    parts: Mapping[str, Part]


@dataclass(frozen=True, slots=True)
class LayerReader:
    """One layer of a checkpoint whose weight stands for [columns, depth] numbers."""

    weights: CheckpointWeights
    layer: str
    columns: int
    depth: int
    settings: LayerSettings

    def has(self, part: str) -> bool:
        """Tell whether the checkpoint holds `layer.part`."""
        return self.weights.stored(f"{self.layer}.{part}") is not None

    def shape(self, part: str) -> tuple[int, ...]:
        """The shape that `layer.part` is stored in."""
        entry = self.weights.stored(f"{self.layer}.{part}")
        if entry is None:
            raise self.refusal(f"lacks {part}")
        return entry.shape

    def dtype(self, part: str) -> str:
        """The element type that `layer.part` is stored as."""
        entry = self.weights.stored(f"{self.layer}.{part}")
        return "" if entry is None else entry.dtype

    def expect(self, part: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> str:
        """The checkpoint's name of `layer.part`, if it is stored like this.

        Raises:
            ModelError: it is absent, of another element type, or of another shape.
        """
        found = self.shape(part)
        if self.dtype(part) not in dtypes:
            raise self.refusal(
                f"has {part} as {self.dtype(part)}, where {' or '.join(dtypes)} is expected"
            )
        if found != shape:
            raise self.refusal(f"has {part} of shape {list(found)}, not {list(shape)}")
        return f"{self.layer}.{part}"

    def groups(self) -> tuple[int, int]:
        """The group size, and how many groups a row has.

        Raises:
            ModelError: groups do not divide the width, or 4-bit weights do not fill bytes.
        """
        if self.settings.bits == 4 and self.depth % 2 != 0:
            raise self.refusal(
                f"is {self.columns} x {self.depth} with two 4-bit weights in a byte, which needs "
                "an even width"
            )
        size = self.settings.group or self.depth
        if self.depth % size != 0:
            raise self.refusal(
                f"is {self.columns} x {self.depth}, which groups of {size} do not divide"
            )
        return size, self.depth // size

    def refusal(self, problem: str) -> ModelError:
        """An error that names the layer."""
        return ModelError(f"quantised layer {self.layer} in {self.weights.directory} {problem}")


def as_float32(values: Array) -> Array:
    """Scales as float32."""
    return values.astype(np.float32)


def nibbles(words: Array, *, bits: int = 4) -> Array:
    """[..., n] int32 to [..., n * 32 / bits] uint8: the parts of each word, low bits first."""
    # Little endian: the bytes of a word come low first.
    octets = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return octets
    pairs = np.stack([octets & 15, octets >> 4], axis=-1)
    return pairs.reshape(*octets.shape[:-1], -1)


def pack_nibbles(values: Array) -> Array:
    """[N, K] of 0..15 to our [N, K/2]: two values in a byte, the low nibble first."""
    packed: Array = values[:, 0::2] | (values[:, 1::2] << 4)
    return packed

"""Formats of cached keys and values: how a row of a head is stored, and what it is multiplied by.

Legend: H heads, D numbers of a row in E = D / `numbers` elements, p of them side by side. A block
holds 16 tokens: keys are [blocks, H, E/p, 16, p] and values [blocks, H, 16/p, E, p].

A quantised row comes with float32 numbers of its own, [blocks, H, parts, 16]: its scale and then,
for int4, its middle:

- "int8": the row is scale * n, with n from -127 to 127 and scale the largest magnitude / 127.
- "fp8": the same with 8-bit floats (4 bits of exponent, 3 of fraction) and 448.
- "int4": middle + scale * (n - 8) with n from 0 to 15 in half a byte, the even number of a pair in
  the low half; scale is the range / 15, and 0 stands for the smallest number of the row.

Rows of one number have the scale 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from banyan.compiler.ir.types import DType

CACHE_BLOCK = 16
"""Tokens of a block."""

NIBBLE_MIDDLE = 8
"""What stands for the middle of an int4 row."""


@dataclass(frozen=True, slots=True)
class CacheFormat:
    """Attributes:
    name: as users say it.
    dtype: element type in memory.
    pack: elements side by side.
    numbers: how many numbers one element holds.
    parts: float32 numbers that each row of a head has beside it.
    largest: the largest magnitude of a stored number; 0 for plain floats.
    """

    name: str
    dtype: DType
    pack: int
    numbers: int = 1
    parts: int = 0
    largest: float = 0.0

    def key_shape(self, heads: int, size: int) -> tuple[int, ...]:
        """Shape of a block of keys of `size` numbers."""
        return (heads, size // self.unit, CACHE_BLOCK, self.pack)

    def value_shape(self, heads: int, size: int) -> tuple[int, ...]:
        """Shape of a block of values of `size` numbers."""
        return (heads, CACHE_BLOCK // self.pack, size // self.numbers, self.pack)

    def scale_shape(self, heads: int) -> tuple[int, ...]:
        """Shape of what lies beside a block."""
        return (heads, self.parts, CACHE_BLOCK)

    def row_bytes(self, size: int) -> int:
        """Bytes of a row of `size` numbers, with what lies beside it."""
        return size * self.dtype.num_bytes // self.numbers + self.parts * DType.FLOAT32.num_bytes

    @property
    def states(self) -> tuple[str, ...]:
        """What a decoder keeps for each layer, in this order."""
        scales = ("key_scales", "value_scales") if self.parts else ()
        return ("key_cache", "value_cache", *scales)

    @property
    def unit(self) -> int:
        """The size of a head is a multiple of it."""
        return self.numbers * self.pack


_ALL = (
    CacheFormat("float32", DType.FLOAT32, 1),
    CacheFormat("bfloat16", DType.BFLOAT16, 2),
    CacheFormat("int8", DType.INT8, 2, parts=1, largest=127.0),
    CacheFormat("fp8", DType.FLOAT8_E4M3, 2, parts=1, largest=448.0),
    CacheFormat("int4", DType.UINT8, 1, numbers=2, parts=2, largest=15.0),
)

CACHE_FORMATS: Mapping[str, CacheFormat] = {form.name: form for form in _ALL}
"""By name."""

_QUANTIZED: Mapping[DType, CacheFormat] = {form.dtype: form for form in _ALL if form.parts}


def quantized_format(dtype: DType) -> CacheFormat | None:
    """The format of a cache whose rows have scales, by its element type; None for plain floats."""
    return _QUANTIZED.get(dtype)

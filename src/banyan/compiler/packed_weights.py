"""Weights from a checkpoint into the memory of a program, converted and packed on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.packing import AS_IT_IS, QUANTIZED_BYTES, QUANTIZED_NIBBLES
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.cpp.packing import pack_linear
from banyan.compiler.targets.interpreter.packed_quantized import pack_quantized
from banyan.devices.device import Buffer, Device, LoadedProgram
from banyan.foundation.errors import InputError

Array = NDArray[Any]

_CODES = {DType.FLOAT32: 0, DType.BFLOAT16: 1, DType.FLOAT16: 2}
_CHECKED_ROWS = 1024
_PANELS = frozenset({"panels", "stacked_panels"})
_QUANTIZED_CODES = {QUANTIZED_BYTES: 3, QUANTIZED_NIBBLES: 4}


@dataclass(slots=True)
class WeightLoader:
    """Fills buffers with weights, on the threads of a device.

    `open_packer` gives the loaded packing program; it is called with the first packed weight.
    """

    device: Device
    open_packer: Callable[[], LoadedProgram]
    packer: LoadedProgram | None = None

    def load(self, array: Array, kind: TensorType, packing: str | None, buffer: Buffer) -> None:
        """Write one weight in its stored form."""
        shape = tuple(size for size in kind.shape if isinstance(size, int))
        packing = None if packing == AS_IT_IS else packing
        if packing is None and array.dtype == kind.dtype.numpy:
            self.device.copy_in(np.asarray(array, order="C"), buffer)
        elif buffer.is_on_host:
            target = buffer.array(kind.dtype.numpy, shape)
            _write(array, target, packing, lambda a, b: self._pack(a, b, kind.dtype, packing))
        else:
            made = np.empty(shape, kind.dtype.numpy)
            _write(array, made, packing, lambda a, b: _pack_on_host(a, b, kind.dtype, packing))
            self.device.copy_in(made, buffer)

    def _pack(self, weight: Array, target: Array, dtype: DType, packing: str | None) -> None:
        if weight.dtype == DType.FLOAT8_E4M3.numpy:
            _refuse_nan(weight)
        codes = _codes(weight, dtype, packing)
        if codes is None:
            _pack_on_host(weight, target, dtype, packing)
            return
        if self.packer is None:
            self.packer = self.open_packer()
        rows, columns = weight.shape
        buffers = (self.device.adopt(weight), self.device.adopt(target))
        self.device.launch(self.packer, buffers, (rows, columns, columns, *codes))
        self.device.synchronize()


def joined_memory(
    device: Device, sizes: Sequence[int], behind: Sequence[int | None], place: int
) -> dict[int, Buffer]:
    """Memory for the input `place` and all that lie in one piece with it.

    Args:
        device: gives the memory.
        sizes: bytes of every input.
        behind: for every input the one that it lies right behind, if any.
        place: the input asked for.
    """
    family = family_of(behind, place)
    if len(family) == 1:
        return {place: device.allocate(sizes[place])}
    total = sum(sizes[i] for i in family)
    shown = device.allocate(total).array(np.dtype(np.uint8), (total,))
    ends = accumulate(sizes[i] for i in family)
    return {
        i: device.adopt(shown[end - sizes[i] : end]) for i, end in zip(family, ends, strict=True)
    }


def family_of(behind: Sequence[int | None], place: int) -> list[int]:
    """The inputs that lie in one piece with the input `place`, in order; itself among them."""
    family = [place]
    while (before := behind[family[0]]) is not None:
        family.insert(0, before)
    following = {before: i for i, before in enumerate(behind) if before is not None}
    while family[-1] in following:
        family.append(following[family[-1]])
    return family


def _write(
    array: Array, target: Array, packing: str | None, pack: Callable[[Array, Array], None]
) -> None:
    """Fill `target` with a weight; `pack` writes one matrix of it."""
    if packing is None:
        _convert(array, target)
        return
    stacked = packing == "stacked_panels"
    for plain, panels in zip(array, target, strict=True) if stacked else [(array, target)]:
        pack(np.ascontiguousarray(plain), panels)


def _refuse_nan(weight: Array) -> None:
    """Kernels take every byte of an 8-bit float for a number."""
    for first in range(0, len(weight), _CHECKED_ROWS):
        bits = weight[first : first + _CHECKED_ROWS].view(np.uint8)
        rows = np.flatnonzero((bits & 0x7F == 0x7F).any(axis=-1))
        if rows.size:
            raise InputError(
                f"row {first + int(rows[0])} of an fp8 weight of shape {weight.shape} holds NaN; "
                "the file is damaged, or its floats are not e4m3fn"
            )


def _codes(weight: Array, dtype: DType, packing: str | None) -> tuple[int, int] | None:
    """The types between which the packing program converts; None where it does not."""
    if packing in _QUANTIZED_CODES:
        return int(weight.dtype == np.int8), _QUANTIZED_CODES[packing]
    if packing not in _PANELS:
        return None
    code = next((c for d, c in _CODES.items() if d.numpy == weight.dtype), None)
    return None if code is None or dtype not in _CODES else (code, _CODES[dtype])


def _pack_on_host(weight: Array, target: Array, dtype: DType, packing: str | None) -> None:
    if packing is None or packing in _PANELS:
        target[...] = pack_linear(weight, dtype).reshape(target.shape)
    else:
        target[...] = pack_quantized(weight, packing, target.shape[0])


def _convert(source: Array, target: Array) -> None:
    """Copy with a change of element type; NumPy converts in small pieces, without a whole copy."""
    np.copyto(target, source, casting="unsafe")

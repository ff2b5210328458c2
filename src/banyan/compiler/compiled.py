"""A compiled program with its memory: weights packed, states kept, arguments bound, kernels run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import final

import numpy as np

from banyan.compiler.arena import LARGEST_FIXED_BYTES, Arena, most_bytes
from banyan.compiler.executable import Argument, Array, Executable, evaluate_shape
from banyan.compiler.interpreted import run_extern_node
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import evaluate
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.packed_weights import WeightLoader, family_of, joined_memory
from banyan.compiler.report import CompileReport
from banyan.compiler.targets.memory import ExternCall, Location, Memory, Slot
from banyan.devices.device import ALIGNMENT_BYTES, Buffer, Device, LoadedProgram, Program
from banyan.devices.host_memory import aligned, contiguous
from banyan.foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class StoredInput:
    """An input as the program reads it.

    Attributes:
        argument: as the caller sees it.
        type: the stored type.
        packing: how a weight is packed.
        is_aligned: whether it must start on a cache line.
        behind: the number of the input that it must lie right behind, if any.
    """

    argument: Argument
    type: TensorType
    packing: str | None
    is_aligned: bool = False
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output: its type and where it lies after the run."""

    argument: Argument
    location: Location


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about a compiled program but its machine code; kept on disk beside it.

    Attributes:
        inputs: in the order of the program's buffers.
        outputs: what a caller sees.
        memories: the buffers that hold results.
        symbols: names in the order the program takes their values.
        slots: the arena.
        entries: the C functions, called in order, with an extern call after each but the last.
        scratch_bytes: of each thread.
        image: the shared object.
        report: what compiling did.
    """

    inputs: tuple[StoredInput, ...]
    outputs: tuple[StoredOutput, ...]
    memories: tuple[TensorType, ...]
    symbols: tuple[str, ...]
    slots: tuple[Slot, ...]
    entries: tuple[str, ...]
    scratch_bytes: int
    image: Path
    report: CompileReport


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What follows from the sizes of a run alone; steps of an engine often have those of the last.

    Attributes:
        sizes: the value of every symbol.
        offsets: where the slots of the arena start.
        symbols: what the program takes: sizes, then offsets.
        result_bytes: of each memory.
        shapes: of the outputs.
    """

    sizes: Mapping[str, int]
    offsets: tuple[int, ...]
    symbols: tuple[int, ...]
    result_bytes: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]


@final
class CompiledProgram(Executable):
    """An `Executable` whose kernels are machine code on a device.

    Attributes:
        manifest: what the program reads and writes, for callers that bring the memory.
    """

    def __init__(
        self,
        manifest: Manifest,
        device: Device,
        loader: WeightLoader,
        externs: Sequence[ExternCall] = (),
    ) -> None:
        inputs = [stored.argument for stored in manifest.inputs]
        outputs = [stored.argument for stored in manifest.outputs]
        super().__init__(inputs, outputs, manifest.report, manifest.symbols)
        self.manifest = manifest
        self._device = device
        self._loader = loader
        self._externs = tuple(externs)
        self._segments = load_segments(manifest, device)
        self._arena = Arena(device, manifest.slots, manifest.symbols)
        self._kept: list[Buffer | None] = [None] * len(manifest.inputs)
        self._results: list[Buffer | None] = [None] * len(manifest.memories)
        self._reserved: dict[int, Buffer] = {}
        self._adopted: set[int] = set()
        self._prepared: _Prepared | None = None
        self._places = [(i, a.name) for i, a in enumerate(inputs) if a.role == "argument"]

    def _load(self, place: int, array: Array) -> None:
        stored = self.manifest.inputs[place]
        buffer = self._weight_memory(place)
        self._loader.load(array, stored.type, stored.packing, buffer)
        self._kept[place] = buffer

    def _allocate(self, place: int) -> None:
        num_bytes = _bytes(self.manifest.inputs[place].type, self._sizes)
        self._kept[place] = self._device.allocate(num_bytes)

    def _write(self, place: int, value: Array) -> None:
        buffer = self._kept[place]
        if buffer is not None:
            self._device.copy_in(contiguous(value), buffer)

    def _write_part(self, place: int, index: int, value: Array) -> None:
        buffer = self._kept[place]
        if buffer is not None:
            self._device.copy_in(contiguous(value), buffer, index * value.nbytes)

    def _read_part(self, place: int, index: int, part: Argument) -> Array:
        buffer = self._kept[place]
        assert buffer is not None, "a state that was found has memory"
        found = np.empty(evaluate_shape(part.type, {}), part.type.dtype.numpy)
        self._device.copy_out(buffer, found, index * found.nbytes)
        return found

    def _run(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """The arrays returned show memory that the next run overwrites."""
        run = self._prepare(sizes)
        buffers = [*self._input_buffers(arguments), *self._output_buffers(run)]
        self._launch(buffers, run)
        return {
            stored.argument.name: self._array(
                stored.location, stored.argument.type.dtype, shape, buffers, run
            )
            for stored, shape in zip(self.manifest.outputs, run.shapes, strict=True)
        }

    def _prepare(self, sizes: Mapping[str, int]) -> _Prepared:
        offsets, known = self._arena.offsets(sizes), self._prepared
        # By value: torch.compile gives the sizes of each call in a mapping of its own.
        if known is not None and known.sizes == sizes and known.offsets is offsets:
            return known
        self._prepared = _Prepared(
            dict(sizes),
            offsets,
            (*(sizes[name] for name in self.manifest.symbols), *offsets),
            tuple(_bytes(kind, sizes) for kind in self.manifest.memories),
            tuple(evaluate_shape(out.argument.type, sizes) for out in self.manifest.outputs),
        )
        return self._prepared

    def _weight_memory(self, place: int) -> Buffer:
        """Memory for the weight of an input; joined weights lie in one piece."""
        # Adopted memory is somebody else's file: a new weight gets memory of its own.
        now = None if place in self._adopted else self._kept[place]
        self._adopted.discard(place)
        kept = now or self._reserved.pop(place, None)
        if kept is not None:
            return kept
        inputs = self.manifest.inputs
        sizes = [stored.type.maximum_bytes for stored in inputs]
        self._reserved |= joined_memory(self._device, sizes, [s.behind for s in inputs], place)
        return self._reserved.pop(place)

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """As the base says."""
        results = (most_bytes(kind.num_bytes, most) for kind in self.manifest.memories)
        return self._arena.bytes_within(most) + sum(results)

    def packed_weights(self) -> list[list[tuple[int, Array]]]:
        """The bytes of every weight by the number of its input; joined ones in one inner list.

        Raises:
            InputError: weights that the host cannot address.
        """
        sizes = [stored.type.maximum_bytes for stored in self.manifest.inputs]
        return [
            [
                (place, buffer.array(np.dtype(np.uint8), (sizes[place],)))
                for place in family
                if (buffer := self._kept[place]) is not None
            ]
            for family in self._weight_families()
        ]

    def adopt_packed(self, pieces: Mapping[int, Array]) -> bool:
        """Take packed weights where they lie, which is for good and not copied.

        False, and nothing is taken, when these are not the bytes this program reads: of another
        number or size, or joined ones that do not lie behind one another.
        """
        inputs = self.manifest.inputs
        families = self._weight_families()
        expected = {place: inputs[place].type.maximum_bytes for f in families for place in f}
        if {place: piece.nbytes for place, piece in pieces.items()} != expected:
            return False
        for family in families:
            starts = [int(pieces[place].ctypes.data) for place in family]
            ends = accumulate((expected[place] for place in family), initial=starts[0])
            if starts[0] % ALIGNMENT_BYTES or starts != list(ends)[:-1]:
                return False
        for place, piece in pieces.items():
            self._kept[place] = self._device.adopt(piece)
            self._adopted.add(place)
            self._missing.pop(place, None)
        return True

    def take_weights(self, other: "CompiledProgram", places: Mapping[int, int]) -> bool:
        """Read all weights where another program of this device keeps them.

        `places` has the numbers of its inputs by the numbers of ours. False, and nothing is taken,
        when it stores one in another way or not behind the one it must lie behind.
        """
        ours, its = self.manifest.inputs, other.manifest.inputs
        for place, there in places.items():
            one, kept = ours[place], its[there]
            is_behind = one.behind is None or places[one.behind] == kept.behind
            if (one.type, one.packing) != (kept.type, kept.packing) or not is_behind:
                return False
        for place, there in places.items():
            self._kept[place] = other._kept[there]
            self._adopted.add(place)
            self._missing.pop(place, None)
        return True

    def _weight_families(self) -> list[list[int]]:
        """Numbers of the weights; those that must lie in one piece together, in their order."""
        behind = [stored.behind for stored in self.manifest.inputs]
        roles = [stored.argument.role for stored in self.manifest.inputs]
        firsts = [i for i, role in enumerate(roles) if role == "weight" and behind[i] is None]
        return [family_of(behind, first) for first in firsts]

    def run_on(
        self, inputs: Sequence[Buffer | None], memories: Sequence[Buffer], sizes: Mapping[str, int]
    ) -> None:
        """Run once in the caller's memory, unchecked.

        Args:
            inputs: one for each input of the manifest, contiguous and aligned as it says; None for
                a weight that `load_weight` brought.
            memories: one for each memory of the manifest.
            sizes: the value of every symbol.
        """
        given = [b or kept for b, kept in zip(inputs, self._kept, strict=True)]
        buffers = [*(buffer for buffer in given if buffer is not None), *memories]
        self._launch(buffers, self._prepare(sizes))

    def _launch(self, buffers: Sequence[Buffer], run: _Prepared) -> None:
        arena = self._arena.buffer or self._device.allocate(64)
        for number, segment in enumerate(self._segments):
            self._device.launch(segment, [*buffers, arena], run.symbols)
            if number < len(self._externs):
                self._device.synchronize()
                self._call_extern(self._externs[number], buffers, run)
        self._device.synchronize()

    def _input_buffers(self, arguments: Mapping[str, Array]) -> list[Buffer]:
        buffers = list(self._kept)
        for place, name in self._places:
            array = contiguous(arguments[name])
            if self.manifest.inputs[place].is_aligned:
                array = aligned(array)
            buffers[place] = self._device.adopt(array)
        return [buffer for buffer in buffers if buffer is not None]

    def _output_buffers(self, run: _Prepared) -> list[Buffer]:
        found: list[Buffer] = []
        kinds = zip(self.manifest.memories, run.result_bytes, strict=True)
        for i, (kind, needed) in enumerate(kinds):
            buffer = self._results[i]
            if buffer is None or buffer.num_bytes < needed:
                largest = kind.maximum_bytes
                size = largest if largest <= LARGEST_FIXED_BYTES else needed
                buffer = self._device.allocate(max(size, 64))
                self._results[i] = buffer
            found.append(buffer)
        return found

    def _array(
        self,
        location: Location,
        dtype: DType,
        shape: tuple[int, ...],
        buffers: Sequence[Buffer],
        run: _Prepared,
    ) -> Array:
        """The value at a location as a host array: its very memory where the host can see it."""
        buffer, start = self._memory_of(location, buffers, run.offsets)
        if not buffer.is_on_host:
            found = np.empty(shape, dtype.numpy)
            self._device.copy_out(buffer, found, start)
            return found
        if start == 0:
            return buffer.array(dtype.numpy, shape)
        whole = buffer.array(np.dtype(np.uint8), (start + math.prod(shape) * dtype.num_bytes,))
        return whole[start:].view(dtype.numpy).reshape(shape)

    def _memory_of(
        self, location: Location, buffers: Sequence[Buffer], offsets: Sequence[int]
    ) -> tuple[Buffer, int]:
        """The buffer a value lies in, and how many bytes from its start."""
        if location.memory is Memory.ARENA and self._arena.buffer is not None:
            return self._arena.buffer, offsets[location.index]
        first = 0 if location.memory is Memory.INPUT else len(self.manifest.inputs)
        return buffers[first + location.index], 0

    def _call_extern(self, call: ExternCall, buffers: Sequence[Buffer], run: _Prepared) -> None:
        """Let the framework compute one node, on the memory the program left its arguments in."""
        sizes = run.sizes
        values = tuple(
            _constant(node)
            if location.memory is Memory.DATA
            else self._array(location, node.dtype, evaluate_shape(node.tensor, sizes), buffers, run)
            for node, location in zip(call.node.args, call.arguments, strict=True)
        )
        results = run_extern_node(call.node, values, sizes)
        listed = results if isinstance(results, tuple) else (results,)
        for result, kind, location in zip(listed, call.types, call.results, strict=True):
            if location is None:
                continue
            shape = evaluate_shape(kind, sizes)
            if shape != result.shape:
                raise InputError(
                    f"{call.node.attr('target')} gave shape {result.shape}, not {shape}"
                )
            buffer, start = self._memory_of(location, buffers, run.offsets)
            value = np.ascontiguousarray(result, kind.dtype.numpy)
            self._device.copy_in(value, buffer, start)


def load_segments(manifest: Manifest, device: Device) -> list[LoadedProgram]:
    """Load each entry of a program on a device.

    Raises:
        CompilationFailed: the shared object is damaged.
    """
    num_buffers = len(manifest.inputs) + len(manifest.memories) + 1
    num_symbols = len(manifest.symbols) + len(manifest.slots)
    return [
        device.load(
            Program(
                name=manifest.report.name,
                target=manifest.report.target,
                image=manifest.image,
                entry=entry,
                num_buffers=num_buffers,
                num_symbols=num_symbols,
                scratch_bytes_per_thread=manifest.scratch_bytes,
            )
        )
        for entry in manifest.entries
    ]


def _bytes(kind: TensorType, sizes: Mapping[str, int]) -> int:
    return evaluate(kind.num_elements, sizes) * kind.dtype.num_bytes


def _constant(node: Node) -> Array:
    """The array of a `data` node, or of a view of one."""
    shape = tuple(size for size in node.shape if isinstance(size, int))
    while node.op == "reshape":
        node = node.args[0]
    return np.asarray(node.attr("values")).astype(node.dtype.numpy).reshape(shape)

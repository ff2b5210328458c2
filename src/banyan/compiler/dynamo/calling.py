"""Calling a compiled graph with PyTorch's tensors: their own memory in, fresh tensors out.

Owns what happens on every call, so it stays close to a loop over pointers.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch

from banyan.compiler.capture.arrays import to_array
from banyan.compiler.capture.emitter import to_torch_dtype
from banyan.compiler.capture.traced import HIDDEN, Computed, Known, Passed, Traced
from banyan.compiler.compiled import CompiledProgram
from banyan.compiler.dynamo.memory import ResultMemory
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.symbols import Dim, Expression, evaluate
from banyan.compiler.targets.memory import Memory
from banyan.devices.device import ALIGNMENT_BYTES, Buffer
from banyan.devices.host_memory import BorrowedBuffer

Compile = Callable[[Graph], CompiledProgram]
Capture = Callable[[Mapping[str, int]], Traced]


@final
class TracedFunction:
    """What AOTAutograd calls instead of the graph it traced. Calls take turns.

    The program serves every length up to a bound; a longer one compiles it again, with the bound
    at twice that length.
    """

    def __init__(self, capture: Capture, compile: Compile) -> None:
        """Capture and compile at once: what cannot be done must be known before anything runs."""
        self._capture, self._compile = capture, compile
        traced = capture({})
        self._program = _BoundProgram(traced, compile(traced.graph))
        self._turn = threading.Lock()

    def __call__(self, arguments: list[Any]) -> list[Any]:
        """Run on the arguments of the traced graph; gives its results in order."""
        with self._turn:
            sizes = self._program.sizes(arguments)
            if self._program.is_too_small(sizes):
                traced = self._capture(sizes)
                self._program = _BoundProgram(traced, self._compile(traced.graph))
            results = self._program.run(arguments, sizes)
        arguments.clear()
        return results


def boxed(function: TracedFunction) -> Callable[[list[Any]], list[Any]]:
    """The function as AOTAutograd likes it: it takes one list, of which we let go."""

    def call(arguments: list[Any]) -> list[Any]:
        return function(arguments)

    call._boxed_call = True  # type: ignore[attr-defined]
    return call


@dataclass(frozen=True, slots=True)
class _Source:
    """Where one input of the program comes from.

    Attributes:
        place: which argument; None for a constant or a hidden size.
        order: its dims as its memory lies; None where that is row-major.
        constant: a tensor the graph brought along.
        is_packed: whether it is kept in another layout, and read again when it has changed.
        is_aligned: whether it must start on a cache line.
    """

    place: int | None
    order: tuple[int, ...] | None
    constant: torch.Tensor | None
    is_packed: bool
    is_aligned: bool


@dataclass(slots=True)
class _Packed:
    """The tensor that was packed last, which keeps its memory from being used by another.

    Tensors made in inference mode have no version: nobody can tell whether they have changed.
    """

    tensor: torch.Tensor
    version: int | None

    def is_still(self, tensor: torch.Tensor) -> bool:
        same = tensor.data_ptr() == self.tensor.data_ptr() and tensor.shape == self.tensor.shape
        return same and self.version is not None and _version(tensor) == self.version


class _BoundProgram:
    """A compiled program with the plan of how a call fills its inputs and reads its outputs."""

    def __init__(self, traced: Traced, program: CompiledProgram) -> None:
        self._traced, self._program = traced, program
        self._symbols = {symbol.name: symbol.maximum for symbol in traced.graph.symbols()}
        by_name = {tensor.name: tensor for tensor in traced.tensors}
        self._sources: list[_Source] = []
        for stored in program.manifest.inputs:
            name = stored.argument.name
            tensor = by_name.get(name)
            order = None if tensor is None else tensor.order
            plain = order is None or order == tuple(range(len(order)))
            self._sources.append(
                _Source(
                    None if tensor is None else tensor.place,
                    None if plain else order,
                    None if name.startswith(HIDDEN) else traced.constants.get(name),
                    stored.packing is not None,
                    stored.is_aligned,
                )
            )
        self._packed: dict[int, _Packed] = {}
        self._results = ResultMemory()
        self._memories = [
            (kind.shape, to_torch_dtype(kind.dtype)) for kind in program.manifest.memories
        ]
        self._locations = {o.argument.name: o for o in program.manifest.outputs}

    def sizes(self, arguments: list[Any]) -> dict[str, int]:
        """The value of every symbol in this call."""
        found: dict[str, int] = {}
        for entry in self._traced.sizes:
            value = arguments[entry.place]
            found[entry.symbol] = int(value if entry.axis is None else value.shape[entry.axis])
        return found

    def is_too_small(self, sizes: Mapping[str, int]) -> bool:
        """Is a size beyond the bound this program was compiled for?"""
        return any(sizes[name] > maximum for name, maximum in self._symbols.items())

    def run(self, arguments: list[Any], sizes: Mapping[str, int]) -> list[Any]:
        """One call."""
        held: list[torch.Tensor] = []  # keeps copies alive until the program is done
        inputs = [self._input(i, s, arguments, held) for i, s in enumerate(self._sources)]
        memories = [
            self._results.tensor(_shape(shape, sizes), dtype) for shape, dtype in self._memories
        ]
        buffers = [BorrowedBuffer(m.data_ptr(), m.nbytes) for m in memories]
        self._program.run_on(inputs, buffers, sizes)
        taken: set[int] = set()
        return [
            self._computed(result, memories, arguments, sizes, taken)
            if isinstance(result, Computed)
            else arguments[result.place]
            if isinstance(result, Passed)
            else _known(result, sizes)
            for result in self._traced.results
        ]

    def _input(
        self, number: int, source: _Source, arguments: list[Any], held: list[torch.Tensor]
    ) -> Buffer | None:
        if source.place is None and source.constant is None:
            return BorrowedBuffer(0, 0)
        tensor = self._given(source, arguments)
        if source.is_packed:
            self._pack(number, source, tensor)
            return None
        laid = _laid_out(tensor, source)
        if laid is not tensor:
            held.append(laid)
        return BorrowedBuffer(laid.data_ptr(), laid.nbytes)

    @staticmethod
    def _given(source: _Source, arguments: list[Any]) -> torch.Tensor:
        found = source.constant if source.place is None else arguments[source.place]
        assert isinstance(found, torch.Tensor)
        return found

    def _pack(self, number: int, source: _Source, tensor: torch.Tensor) -> None:
        known = self._packed.get(number)
        if known is not None and known.is_still(tensor):
            return
        laid = tensor.detach() if source.order is None else tensor.detach().permute(source.order)
        self._program.load_weight(number, to_array(laid))
        self._packed[number] = _Packed(tensor.detach(), _version(tensor))

    def _computed(
        self,
        result: Computed,
        memories: list[torch.Tensor],
        arguments: list[Any],
        sizes: Mapping[str, int],
        taken: set[int],
    ) -> torch.Tensor:
        stored = self._locations[result.name]
        index = stored.location.index
        if stored.location.memory is Memory.INPUT:
            # A result of its own, whatever is done to the input afterwards.
            source = self._sources[index]
            memory = _laid_out(self._given(source, arguments), source).clone()
        else:
            memory = memories[index]
            if index in taken:
                memory = memory.clone()
            taken.add(index)
        shaped = memory.view(_shape(stored.argument.type.shape, sizes))
        plain = tuple(range(len(result.order)))
        return shaped if result.order == plain else shaped.permute(result.order)


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _laid_out(tensor: torch.Tensor, source: _Source) -> torch.Tensor:
    """The tensor in the order its input has, without gaps, aligned as asked."""
    if source.order is not None:
        tensor = tensor.permute(source.order)
    tensor = tensor.contiguous()
    if source.is_aligned and tensor.data_ptr() % ALIGNMENT_BYTES:
        return tensor.clone()
    return tensor


def _shape(dims: tuple[Dim, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else evaluate(d, sizes) for d in dims)


def _known(result: Known, sizes: Mapping[str, int]) -> Any:
    value = result.value
    return evaluate(value, sizes) if isinstance(value, Expression) else value

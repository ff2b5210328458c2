"""What compiling gives: something with named inputs and outputs that runs.

`Executable` owns names, sizes and checks; `compiled.CompiledProgram` and
`interpreted.InterpretedGraph` own memory and arithmetic. Nothing here imports torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.binding import bind_symbols
from banyan.compiler.ir.symbols import Symbol, evaluate
from banyan.compiler.ir.types import TensorType
from banyan.compiler.report import CompileReport
from banyan.foundation.errors import InputError

Array = NDArray[Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Argument:
    """An input or output of an executable.

    Attributes:
        name: as in the graph.
        type: shape and element type as the caller sees them.
        role: "argument", "weight", "state" or "output".
    """

    name: str
    type: TensorType
    role: str


class WeightSource(Protocol):
    """Where weights come from, one at a time."""

    def names(self) -> Collection[str]:
        """Every tensor it has."""
        ...

    def read(self, name: str) -> Array:
        """A read-only view of one tensor; it may lie on disk until it is touched."""
        ...

    def release(self, name: str) -> None:
        """Say that a tensor is no longer needed, so that its pages can go."""
        ...


class PendingRun(Protocol):
    """A run that was begun."""

    def finish(self) -> Mapping[str, Array]:
        """Wait for the results, which stay valid until another run is begun or finished.

        Called once; runs are finished in the order in which they were begun. What goes wrong in a
        run is raised here or where it was begun.
        """
        ...


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that was over as soon as it was begun."""

    results: Mapping[str, Array]

    def finish(self) -> Mapping[str, Array]:
        """See `PendingRun`."""
        return self.results


class Executable(ABC):
    """A compiled graph with its weights and states; targets say how values are kept and run.

    Attributes:
        inputs: arguments, weights and states.
        outputs: what `run` returns, in order; outputs that only replace a state are left out.
        report: what compiling did.
    """

    def __init__(
        self,
        inputs: Iterable[Argument],
        outputs: Iterable[Argument],
        report: CompileReport,
        symbols: Sequence[str] = (),
    ) -> None:
        """Name what goes in and out; `symbols` are sizes without which nothing can run."""
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.report = report
        self._bound = BoundSizes(of_role(self.inputs, "argument"), symbols)
        self._sizes: dict[str, int] = {}
        self._missing = {i: a for i, a in enumerate(self.inputs) if a.role != "argument"}

    def load_weights(self, source: WeightSource, progress: Progress | None = None) -> None:
        """Read every weight, one at a time, into the layout the program wants.

        `progress` is told (done, all) after each. May be called again to replace the weights.

        Raises:
            InputError: a weight is absent or has another shape.
        """
        weights = [(i, a) for i, a in enumerate(self.inputs) if a.role == "weight"]
        for done, (place, argument) in enumerate(weights, start=1):
            self.load_weight(place, read_weight(source, argument))
            source.release(argument.name)
            if progress is not None:
                progress(done, len(weights))

    def load_weight(self, place: int, array: Array) -> None:
        """Bring one weight into the layout that the input number `place` is read in."""
        self._load(place, array)
        self._missing.pop(place, None)

    def allocate_state(self, symbol_values: Mapping[str, int]) -> None:
        """Give every state zeroed memory; `symbol_values` names the sizes they depend on.

        Raises:
            InputError: a size is absent or out of bounds.
        """
        self._sizes = bind_states(of_role(self.inputs, "state"), symbol_values)
        for place, argument in enumerate(self.inputs):
            if argument.role == "state":
                self._allocate(place)
                self._missing.pop(place, None)

    def write_state(self, name: str, value: Array) -> None:
        """Replace what a state holds; `allocate_state` comes first.

        Raises:
            InputError: there is no such state, or its shape or element type differs.
        """
        place = self._place_of_state(name)
        check_state(self.inputs[place], self._sizes, value)
        self._write(place, value)

    def write_state_part(self, name: str, index: int, value: Array) -> None:
        """Replace entry `index` of the first dim of a state.

        Raises:
            InputError: there is no such state or entry, or its shape or element type differs.
        """
        place, part = self._part_of_state(name, index)
        check_state(part, {}, value)
        self._write_part(place, index, value)

    def read_state_part(self, name: str, index: int) -> Array:
        """Copy entry `index` of the first dim of a state.

        Raises:
            InputError: there is no such state or entry.
        """
        place, part = self._part_of_state(name, index)
        return self._read_part(place, index, part)

    def read_state_parts(
        self, names: Collection[str], indices: Sequence[int]
    ) -> Mapping[str, Array]:
        """Copy the same entries of several states, [len(indices), ...] each, or raise as above."""
        return {n: np.stack([self.read_state_part(n, i) for i in indices]) for n in names}

    def write_state_parts(self, values: Mapping[str, Array], indices: Sequence[int]) -> None:
        """Replace the same entries of several states, or raise as above."""
        for name, value in values.items():
            for index, entry in zip(indices, value, strict=True):
                self.write_state_part(name, index, entry)

    def _part_of_state(self, name: str, index: int) -> tuple[int, Argument]:
        """The place of a state and what one of its entries is."""
        place = self._place_of_state(name)
        argument = self.inputs[place]
        count, *shape = evaluate_shape(argument.type, self._sizes)
        if not 0 <= index < count:
            raise InputError(f"state {name!r} has entries 0 to {count - 1}, not {index}")
        kind = TensorType(tuple(shape), argument.type.dtype)
        return place, Argument(f"{name}[{index}]", kind, "state")

    def _place_of_state(self, name: str) -> int:
        for place, argument in enumerate(self.inputs):
            if (argument.role, argument.name) == ("state", name) and place not in self._missing:
                return place
        raise InputError(f"there is no state {name!r}; call allocate_state first")

    @property
    def num_in_flight(self) -> int:
        """How many runs may be begun and not finished; more only where several places compute."""
        return 1

    def run(self, arguments: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run once, see `begin`. States are updated in place; results stay valid until the next."""
        return self.begin(arguments).finish()

    def begin(self, arguments: Mapping[str, Array]) -> PendingRun:
        """Start a run, or run at once; `arguments` are left as they are until it is finished.

        Runs under way at the same time must not read or write what another of them writes of the
        states.

        Raises:
            InputError: an argument is absent, unknown, or has another type or shape; or weights
                or states are not there yet.
        """
        sizes = self._bound.sizes(arguments, self._sizes)
        for missing in self._missing.values():
            how = "load_weights" if missing.role == "weight" else "allocate_state"
            raise InputError(f"the {missing.role} {missing.name!r} has no memory; call {how}")
        return self._begin(arguments, sizes)

    @property
    def weight_bytes(self) -> int:
        """Memory that all weights take as the caller sees them; packing adds little to that."""
        return sum(argument.type.maximum_bytes for argument in of_role(self.inputs, "weight"))

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """Memory that runs take for values and results; none where it is found as it is needed.

        `most` bounds sizes by the names of their symbols; others may be as large as can be.
        """
        del most
        return 0

    def close(self) -> None:  # noqa: B027  (most hold nothing, and need not say so)
        """Give back what it holds beside memory of its device."""

    def _begin(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> PendingRun:
        """Start a run with checked arguments, everything kept."""
        return FinishedRun(self._run(arguments, sizes))

    @abstractmethod
    def _load(self, place: int, array: Array) -> None:
        """Keep a weight."""

    @abstractmethod
    def _allocate(self, place: int) -> None:
        """Keep zeros for a state, of the sizes in `_sizes`."""

    @abstractmethod
    def _write(self, place: int, value: Array) -> None:
        """Overwrite a state."""

    @abstractmethod
    def _write_part(self, place: int, index: int, value: Array) -> None:
        """Overwrite one entry of the first dim of a state."""

    @abstractmethod
    def _read_part(self, place: int, index: int, part: Argument) -> Array:
        """Copy one entry of the first dim of a state, which is like `part`."""

    @abstractmethod
    def _run(self, arguments: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Array]:
        """Run with checked arguments, everything kept."""


def of_role(inputs: Sequence[Argument], role: str) -> tuple[Argument, ...]:
    """The inputs with a role."""
    return tuple(argument for argument in inputs if argument.role == role)


def check_arguments(wanted: Sequence[Argument], given: Mapping[str, Array]) -> None:
    """Compare names and element types.

    Raises:
        InputError: a name is absent or unknown, or an element type differs.
    """
    names = {argument.name for argument in wanted}
    if missing := sorted(names - given.keys()):
        raise InputError(f"argument {missing[0]!r} is missing; give {', '.join(sorted(names))}")
    if unknown := sorted(given.keys() - names):
        raise InputError(f"unknown argument {unknown[0]!r}; known are {', '.join(sorted(names))}")
    for argument in wanted:
        dtype = argument.type.dtype.numpy
        if given[argument.name].dtype != dtype:
            raise InputError(
                f"argument {argument.name!r} has element type {given[argument.name].dtype}, "
                f"but {dtype} is needed"
            )


def bind_arguments(
    wanted: Sequence[Argument], given: Mapping[str, Array], states: Mapping[str, int]
) -> dict[str, int]:
    """The value of each symbol in this run.

    Args:
        wanted: the arguments.
        given: their arrays.
        states: values fixed by the states' memory.

    Raises:
        InputError: a shape does not fit, or differs from the states' memory.
    """
    types = {argument.name: argument.type for argument in wanted}
    values = bind_symbols(types, {name: given[name].shape for name in types})
    for name, value in states.items():
        if values.setdefault(name, value) != value:
            raise InputError(f"the arguments have {name} = {values[name]}, the states {value}")
    return values


# Sets of shapes that are remembered; a run of an engine has a few dozen at most.
_MOST_KNOWN = 256


class BoundSizes:
    """The value of every symbol; looked up where an earlier run had arguments of the same types."""

    def __init__(self, wanted: Sequence[Argument], symbols: Sequence[str]) -> None:
        """Take the arguments of a program and the names of its symbols."""
        self._wanted = wanted
        self._symbols = symbols
        self._known: dict[tuple[object, ...], Mapping[str, int]] = {}

    def sizes(self, given: Mapping[str, Array], states: Mapping[str, int]) -> Mapping[str, int]:
        """The values in this run; `states` are those fixed by the states' memory.

        Raises:
            InputError: an argument does not fit, or none tells a size.
        """
        kinds = ((name, array.dtype, array.shape) for name, array in given.items())
        asked = (*states.items(), *kinds)
        found = self._known.get(asked)
        if found is None:
            check_arguments(self._wanted, given)
            found = bind_arguments(self._wanted, given, states)
            for name in self._symbols:
                if name not in found:
                    raise InputError(
                        f"no argument tells the size {name}; pass states or arrays of it"
                    )
            if len(self._known) == _MOST_KNOWN:
                self._known.clear()
            self._known[asked] = found
        return found


def bind_states(states: Sequence[Argument], values: Mapping[str, int]) -> dict[str, int]:
    """Check that every size of the states is given and in bounds; return those they use.

    Raises:
        InputError: a size is absent or out of bounds.
    """
    found: dict[str, int] = {}
    for symbol in _symbols(states):
        value = values.get(symbol.name)
        if value is None:
            raise InputError(f"the states depend on {symbol.name}; give its value")
        if not symbol.minimum <= value <= symbol.maximum:
            raise InputError(
                f"{symbol.name} = {value} is outside the bounds {symbol.minimum} to "
                f"{symbol.maximum} this program was compiled for"
            )
        found[symbol.name] = value
    return found


def _symbols(arguments: Sequence[Argument]) -> list[Symbol]:
    return list(dict.fromkeys(s for argument in arguments for s in argument.type.symbols()))


def check_state(state: Argument, sizes: Mapping[str, int], value: Array) -> None:
    """Compare `value` with the state it is to replace.

    Raises:
        InputError: its shape or element type differs.
    """
    shape, dtype = evaluate_shape(state.type, sizes), state.type.dtype.numpy
    if shape != value.shape or dtype != value.dtype:
        raise InputError(
            f"state {state.name!r} is {dtype}{list(shape)}, not {value.dtype}{list(value.shape)}"
        )


def evaluate_shape(kind: TensorType, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape in a run."""
    return tuple(evaluate(dim, sizes) for dim in kind.shape)


def read_weight(source: WeightSource, argument: Argument) -> Array:
    """One weight from a source, checked.

    Raises:
        InputError: it is absent, has another shape, or no floating element type where one is
            needed.
    """
    if argument.name not in source.names():
        raise InputError(f"weight {argument.name!r} is not among those given; add it")
    array = source.read(argument.name)
    if array.shape != argument.type.shape:
        raise InputError(
            f"weight {argument.name!r} has shape {array.shape}, but {argument.type.shape} is needed"
        )
    return array

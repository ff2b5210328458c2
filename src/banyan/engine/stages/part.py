"""A part of a plan: the segments of one place, with their weights and states.

`Part` is the seam; `LocalPart` computes in this process, `remote_part.RemotePart` asks a worker.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.cutting.renaming import PlainGraph, PlainWeights, plainly_named
from banyan.compiler.cutting.segments import Segment
from banyan.compiler.executable import Array, Executable, WeightSource
from banyan.compiler.report import CompileReport
from banyan.devices.device import Device
from banyan.foundation.errors import InputError, StageFailed


@dataclass(frozen=True, slots=True)
class NumberedSegment:
    """A segment as its part sees it.

    Attributes:
        number: among all segments of the step.
        segment: what to compute.
        sent: results that others need; the rest stays at the place for its own later segments.
        title: what a person calls it: "layers 0 to 3".
    """

    number: int
    segment: Segment
    sent: tuple[str, ...]
    title: str


class Part(Protocol):
    """Computes the segments of one place. Calls come from one thread at a time."""

    @property
    def place(self) -> str:
        """The device of the plan."""
        ...

    @property
    def reports(self) -> Sequence[CompileReport]:
        """What compiling its segments did."""
        ...

    def load_weights(self, source: WeightSource) -> None:
        """Read the weights of its segments, and no others."""
        ...

    def allocate_state(self, sizes: Mapping[str, int]) -> None:
        """Give its states zeroed memory."""
        ...

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """Memory that runs take for values and results."""
        ...

    def begin(self, number: int, arrays: Mapping[str, Array], *, is_first: bool) -> None:
        """Compute a segment, or start to.

        Args:
            number: of the segment.
            arrays: values of other places that it takes; in the first call of a step also every
                argument of the step that any segment of the place reads.
            is_first: whether a step begins at this place.
        """
        ...

    def finish(self) -> Mapping[str, Array]:
        """What others need of the earliest segment that was begun and not finished.

        Raises:
            StageFailed: the worker is gone, does not answer, or computed NaN.
        """
        ...

    def read_state_part(self, name: str, index: int) -> Array:
        """Copy an entry of a state."""
        ...

    def write_state_part(self, name: str, index: int, value: Array) -> None:
        """Replace an entry of a state."""
        ...

    def write_state(self, name: str, value: Array) -> None:
        """Replace a state."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class LocalPart:
    """Computes on a device of this process."""

    def __init__(
        self,
        place: str,
        segments: Sequence[NumberedSegment],
        device: Device,
        *,
        target: str | None,
        options: CompileOptions,
    ) -> None:
        """Compile the segments.

        Args:
            place: the device of the plan.
            segments: in the order in which they run.
            device: closed by `close`.
            target: see `compile_graph`.
            options: see `compile_graph`.
        """
        self.place = place
        self._device = device
        self._segments = {numbered.number: numbered for numbered in segments}
        self._plain = {n.number: plainly_named(n.segment.graph) for n in segments}
        self._programs = {
            number: compile_graph(plain.graph, device=device, target=target, options=options)
            for number, plain in self._plain.items()
        }
        self._own = {numbered.number: _own_values(numbered, segments) for numbered in segments}
        self._taken = {n.number: _arguments_of(n, self._plain[n.number]) for n in segments}
        self._arguments: dict[str, Array] = {}
        self._values: dict[str, Array] = {}
        self._finished: deque[Mapping[str, Array]] = deque()

    @property
    def reports(self) -> Sequence[CompileReport]:
        """See `Part`."""
        return [program.report for program in self._programs.values()]

    def load_weights(self, source: WeightSource) -> None:
        """See `Part`."""
        for number, program in self._programs.items():
            program.load_weights(PlainWeights(source, self._plain[number].inputs))

    def allocate_state(self, sizes: Mapping[str, int]) -> None:
        """See `Part`."""
        for program in self._programs.values():
            program.allocate_state(sizes)

    def step_bytes(self, most: Mapping[str, int]) -> int:
        """See `Part`."""
        return sum(program.step_bytes(most) for program in self._programs.values())

    def begin(self, number: int, arrays: Mapping[str, Array], *, is_first: bool) -> None:
        """See `Part`: computes at once."""
        if is_first:
            self._arguments, self._values = dict(arrays), {}
        known = {**self._arguments, **self._values, **arrays}
        program, numbered = self._programs[number], self._segments[number]
        found = program.run({plain: known[name] for name, plain in self._taken[number]})
        outputs = self._plain[number].outputs
        results = {name: found[outputs[name]] for name in numbered.segment.given}
        _refuse_nan(results, numbered, self.place)
        for name in self._own[number]:
            self._values[name] = results[name]
        self._finished.append({name: results[name] for name in numbered.sent})

    def finish(self) -> Mapping[str, Array]:
        """See `Part`."""
        return self._finished.popleft()

    def read_state_part(self, name: str, index: int) -> Array:
        """See `Part`."""
        program, plain = self._owner(name)
        return program.read_state_part(plain, index)

    def write_state_part(self, name: str, index: int, value: Array) -> None:
        """See `Part`."""
        program, plain = self._owner(name)
        program.write_state_part(plain, index, value)

    def write_state(self, name: str, value: Array) -> None:
        """See `Part`."""
        program, plain = self._owner(name)
        program.write_state(plain, value)

    def _owner(self, state: str) -> tuple[Executable, str]:
        for number, program in self._programs.items():
            plain = self._plain[number].inputs.get(state)
            if plain is not None:
                return program, plain
        raise InputError(f"{self.place} holds no state {state!r}")

    def close(self) -> None:
        """See `Part`."""
        self._device.close()


def _own_values(numbered: NumberedSegment, segments: Sequence[NumberedSegment]) -> tuple[str, ...]:
    """The results of a segment that its own place needs later."""
    place = numbered.segment.place
    needed = {
        name
        for other in segments
        for name, source in other.segment.received.items()
        if source == place and other.number > numbered.number
    }
    return tuple(name for name in numbered.segment.given if name in needed)


def _arguments_of(numbered: NumberedSegment, plain: PlainGraph) -> tuple[tuple[str, str], ...]:
    """What a run takes: name in the segment, and plain name."""
    return tuple(
        (name, plain.inputs[name])
        for node in numbered.segment.graph.inputs
        if node.attr("role") == "argument" and (name := str(node.attr("name")))
    )


def _refuse_nan(results: Mapping[str, Array], numbered: NumberedSegment, place: str) -> None:
    """Of a matrix with a row for each token the first column tells: a NaN in a row spreads."""
    for name, array in results.items():
        if array.dtype.kind in "iub":
            continue
        seen = array if name.startswith("value.") else array[..., :1]
        if np.isnan(seen.astype(np.float32, copy=False)).any():
            raise StageFailed(
                f"{numbered.title} on {place} gave NaN; its weights are damaged, or its device "
                "computes wrongly: run `banyan conformance` on it, or plan without it",
                place=place,
            )
